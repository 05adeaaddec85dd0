"""Split a data set by images so that the classes keep their shares."""

from __future__ import annotations

import dataclasses
import hashlib
import os.path as osp
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from mmfgl.utils.formats.base import Dataset, Split
from mmfgl.utils.formats.copies import Copies

# what photographs of one burst, or augmented copies of one photograph, share
_BURST = (
    re.compile(r'(.+)\.rf\.[0-9a-zA-Z]+$'),  # Roboflow
    re.compile(r'(.*(?<!\d)20\d{6}[-_T]?\d{6})(?!\d{4})'),  # capture second
)


def split_dataset(
    dataset: Dataset, val_share: float = 0.2, seed: int = 0
) -> Dataset:
    """Split ``val`` off ``train``; a data set that has one stays as it is.

    Every class keeps its share of the objects as far as whole images allow
    (:func:`stratify`), and has objects in both parts if two images or bursts
    show it. Kept together are copies of one file, those that Roboflow made of
    one photograph (``NAME.rf.HASH.jpg``) and photographs whose names tell the
    same capture second (``IMG_20240131_120102_1.jpg``).

    Args:
        dataset: What :func:`read_dataset` gave.
        val_share: Share of the images, or of the bursts, for ``val``.
        seed: Another one gives another split.

    Raises:
        ValueError: There are too few images, or ``val_share`` is no share, or
            one of the parts would show no object.
    """
    if not 0 < val_share < 1:
        raise ValueError(f'val_share={val_share} is not between 0 and 1')
    if 'val' in dataset.splits:
        return dataset
    train = dataset.splits['train']
    counts = objects_of(train.content)
    bursts = _bursts(train)
    total = len(bursts)
    size = round(val_share * total)
    if total > 1:
        size = min(max(size, 1), total - 1)
    if not 0 < size < total:
        raise ValueError(
            f'{total} images or bursts cannot be split into train and val: '
            'label more, or give both'
        )
    units = {
        images[0]: sum((counts[i] for i in images), Counter())
        for images in bursts.values()
    }
    parts = stratify(units, [total - size, size], seed)
    _share_classes(units, parts)
    if not all(any(units[i] for i in part) for part in parts):
        raise ValueError(
            'only one image or burst shows an object, so that train or val '
            'would show none: label more, or give both'
        )
    members = {images[0]: images for images in bursts.values()}
    splits = {}
    for name, keys in zip(('train', 'val'), parts, strict=True):
        ids = {image for key in keys for image in members[key]}
        splits[name] = Split(part_of(train.content, ids), train.root)
    numbers = [len(split.content['images']) for split in splits.values()]
    note = f'no val was given: split into {numbers[0]} images to train on and '
    note += f'{numbers[1]} for val, classes in proportion, seed {seed}'
    together = sum(len(images) for images in bursts.values()) - total
    if together:
        note += f'; {total} bursts or copies of one photograph kept together'
    rest = {k: v for k, v in dataset.splits.items() if k != 'train'}
    notes = [*dataset.notes, note]
    return dataclasses.replace(dataset, splits=splits | rest, notes=notes)


def _bursts(split: Split) -> dict[str, list[int]]:
    """Image ids that belong together."""
    bursts, copies = defaultdict(list), Copies()
    paths = map(copies.add, split.paths())
    for image, path in zip(split.content['images'], paths, strict=True):
        stem = osp.splitext(osp.relpath(path, split.root))[0]
        for pattern in _BURST:
            if match := pattern.match(stem):
                stem = match[1]
        bursts[stem].append(image['id'])
    return dict(bursts)


def _share_classes(units: dict[int, Counter], parts: list[set[int]]) -> None:
    """Move units so that both parts show each class, in place.

    A unit moves only if its old part keeps all classes that it had.
    """
    shown = [sum((units[i] for i in part), Counter()) for part in parts]
    images = Counter(label for unit in units.values() for label in unit)
    for label in sorted(images, key=lambda c: (images[c], str(c))):
        for poor, rich in ((0, 1), (1, 0)):
            if shown[poor][label] or images[label] < 2:
                continue
            for unit in sorted(parts[rich], key=lambda i: _hash(0, i)):
                have = units[unit]
                if have[label] and all(have[c] < shown[rich][c] for c in have):
                    parts[rich].remove(unit)
                    parts[poor].add(unit)
                    shown[rich] -= have
                    shown[poor] += have
                    break


def part_of(content: dict, images: set[int]) -> dict:
    """The annotations of some images; categories and order are kept."""
    return dict(
        content,
        images=[i for i in content['images'] if i['id'] in images],
        annotations=[
            a for a in content['annotations'] if a['image_id'] in images
        ],
    )


def objects_of(content: dict) -> dict[int, Counter]:
    """Objects of each category by image id; crowd regions do not count."""
    counts = {image['id']: Counter() for image in content['images']}
    for ann in content['annotations']:
        if not ann.get('iscrowd', 0):
            counts[ann['image_id']][ann['category_id']] += 1
    return counts


def stratify(
    counts: dict[int, Counter], sizes: Sequence[int], seed: int
) -> list[set[int]]:
    """Deal images out to parts so that categories keep their shares.

    Iterative stratification (Sechidis et al., ECML PKDD 2011): the category
    with the fewest images left is dealt out first. Integers and SHA-256
    alone decide, so that a seed means the same on every platform.

    Args:
        counts: Objects of each category by image id.
        sizes: Numbers of images of the parts, which add up to all.
        seed: Of the order of images.

    Returns:
        The image ids of each part.
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
