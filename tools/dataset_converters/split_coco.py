"""Split a COCO annotation file by images, reproducibly.

Usage::

    # NAME.8to1-train.json and NAME.8to1-val.json: 8 images to 1
    python tools/dataset_converters/split_coco.py \
        data/coco/annotations/instances_train2017.json --train-val 8:1
    # NAME.1@1.json ... NAME.5@10.json: 5 folds of 1, 2, 5, 10 % of the images
    python tools/dataset_converters/split_coco.py \
        data/coco/annotations/instances_train2017.json --percent 1 2 5 10
    # NAME.1@100images.json ... NAME.5@100images.json
    python tools/dataset_converters/split_coco.py \
        my_data/annotations/train.json --images 100

Files are named as MMDetection's own tools/misc/split_coco.py names them,
NAME.{fold}@{percent}.json, with --unlabelled NAME.{fold}@{percent}-unlabeled
besides: the images that are left, for semi-supervised training.

The same annotation file gives the same bytes on every platform and Python:
images are ordered by SHA-256, and all arithmetic is in integers. Every
category keeps its share of the objects as far as whole images allow
(iterative stratification, Sechidis et al., ECML PKDD 2011: the category with
the fewest images left is dealt out first). The seed of fold F is F, that of
the train:val split 0.
"""

import argparse
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.user_errors import add_debug_argument, user_errors

TRAIN_VAL_SEED = 0
FOLDS = 5  # seeds 1 to 5


def stratify(
    counts: dict[int, Counter], sizes: Sequence[int], seed: int
) -> list[set[int]]:
    """Deal images out to parts so that categories keep their shares.

    ``counts`` are the objects of each category by image id; ``sizes``, numbers
    of images, add up to all. Gives the image ids of each part.
    """
    total = sum(sizes)
    order = sorted(counts, key=lambda image: _hash(seed, image))
    # images without objects are a category of their own
    labels = {i: counts[i] or Counter({None: 1}) for i in order}
    waiting = defaultdict(list)
    objects = Counter()
    for image in order:
        objects.update(labels[image])
        for label in labels[image]:
            waiting[label].append(image)
    left = Counter({label: len(images) for label, images in waiting.items()})
    rank = {label: i for i, label in enumerate(sorted(waiting, key=str))}
    # wanted objects of each part, times the number of images
    wanted = [{c: n * size for c, n in objects.items()} for size in sizes]
    room = list(sizes)
    parts: list[set[int]] = [set() for _ in sizes]
    done = set()
    while left:
        label = min(left, key=lambda c: (left[c], rank[c]))
        for image in waiting[label]:
            if image in done:
                continue
            part = max(
                (p for p in range(len(sizes)) if room[p]),
                key=lambda p: (wanted[p][label], room[p], -p),
            )
            parts[part].add(image)
            done.add(image)
            room[part] -= 1
            for other, number in labels[image].items():
                wanted[part][other] -= number * total
                left[other] -= 1
        del left[label]
    return parts


def _hash(seed: int, image: int) -> str:
    return hashlib.sha256(f'{seed}/{image}'.encode()).hexdigest()


def load_coco(path: Path) -> dict:
    """Read an annotation file.

    Raises:
        ValueError: If it is not a COCO annotation file, or contradicts
            itself.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f'{path} is not JSON: {error}') from None
    for key in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or key not in content:
            raise ValueError(
                f'{path} is no COCO annotation file: it has no {key!r}'
            )
    images = Counter(image['id'] for image in content['images'])
    for image, number in images.items():
        if number > 1:
            raise ValueError(f'{path} has {number} images with id {image}')
    categories = {category['id'] for category in content['categories']}
    for ann in content['annotations']:
        for key, known in (('image_id', images), ('category_id', categories)):
            if ann[key] not in known:
                raise ValueError(
                    f'annotation {ann.get("id")} of {path} has {key} '
                    f'{ann[key]}, which the file does not list'
                )
    return content


def objects_of(content: dict) -> dict[int, Counter]:
    """Objects of each category by image id; crowd regions do not count."""
    counts = {image['id']: Counter() for image in content['images']}
    for ann in content['annotations']:
        if not ann.get('iscrowd', 0):
            counts[ann['image_id']][ann['category_id']] += 1
    return counts


def save_part(content: dict, images: set[int], path: Path) -> None:
    """Write the annotation file of some images, and print what it holds.

    All categories are kept, and the order of images and annotations.
    """
    part = dict(
        content,
        images=[i for i in content['images'] if i['id'] in images],
        annotations=[
            a for a in content['annotations'] if a['image_id'] in images
        ],
    )
    data = json.dumps(part, separators=(',', ':')).encode('ascii')
    write_atomically(data, path)
    seen = {a['category_id'] for a in part['annotations']}
    print(
        f'{path}: {len(part["images"])} images, '
        f'{len(part["annotations"])} annotations, {len(seen)} of '
        f'{len(content["categories"])} categories\n'
        f'  sha256 {hashlib.sha256(data).hexdigest()}'
    )


def split(args: argparse.Namespace) -> None:
    """Make all splits that the command line asks for.

    Raises:
        ValueError: If the images are too few, or the file is no good.
    """
    if not (args.train_val or args.percent or args.images):
        raise ValueError(
            'nothing to do: ask for --train-val 8:1, --percent 1 2 5 10 or '
            '--images N'
        )
    content = load_coco(args.annotations)
    counts = objects_of(content)
    total = len(counts)
    out = args.out or args.annotations.parent
    stem = str(out / args.annotations.stem)

    def size_of(share: Fraction, what: str) -> int:
        size = int(share * total + Fraction(1, 2))  # rounds half up
        if not 0 < size < total:
            raise ValueError(
                f'{what} of the {total} images of {args.annotations} are '
                f'{size} images: at least 1 and fewer than all are needed'
            )
        return size

    # check everything first: no half-finished set of splits
    samples = {}
    for tag in (f'{percent:g}' for percent in args.percent):
        samples[tag] = size_of(Fraction(tag) / 100, f'{tag} %')
    for number in args.images:
        size = size_of(Fraction(number, total), '--images')
        samples[f'{number}images'] = size
    if args.train_val:
        first, second = args.train_val
        tag = f'{first}to{second}'
        size = size_of(Fraction(first, first + second), tag)
        parts = stratify(counts, [size, total - size], TRAIN_VAL_SEED)
        for part, images in zip(('train', 'val'), parts, strict=True):
            save_part(content, images, Path(f'{stem}.{tag}-{part}.json'))
    for tag, size in samples.items():
        for fold in range(1, FOLDS + 1):
            name = f'{stem}.{fold}@{tag}'
            images, rest = stratify(counts, [size, total - size], fold)
            save_part(content, images, Path(f'{name}.json'))
            if args.unlabelled:
                save_part(content, rest, Path(f'{name}-unlabeled.json'))


def ratio(text: str) -> tuple[int, int]:
    """Parse A:B, two positive whole numbers."""
    first, second = (int(part) for part in text.split(':'))
    if min(first, second) < 1:
        raise ValueError
    return first, second


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Split a COCO annotation file by images, reproducibly',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('annotations', type=Path, help='annotation file')
    add('--train-val', type=ratio, metavar='A:B', help='e.g. 8:1')
    many = dict(nargs='+', default=[])
    add('--percent', type=float, **many, help='low-label splits, in percent')
    add('--images', type=int, **many, help='low-label splits, in images')
    add('--unlabelled', action='store_true', help='write their rest too')
    add('--out', type=Path, help='folder (default: beside the source)')
    add_debug_argument(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Split; stop with a one-line message on a user's error."""
    args = parse_args(argv)
    with user_errors(args.debug):
        split(args)


if __name__ == '__main__':
    main()
