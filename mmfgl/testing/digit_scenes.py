"""Build the embedded data set *digit scenes*: small, real pixels, offline.

A COCO-format 10-class detection set with masks, made of real handwritten
digits on real photographs, so that a fresh machine without any download can
run the whole chain in minutes. Layout of the output folder::

    train/ val/ unlabelled/      000000.jpg, 000001.jpg, ...
    annotations/train.json  annotations/val.json
    README.md                    provenance and licences
    settings.json                arguments and digest
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmfgl.testing.digit_scenes_render import render_scene
from mmfgl.testing.digit_scenes_sources import (
    BACKGROUNDS,
    README,
    load_backgrounds,
    load_digits_of,
)

GENERATOR_VERSION = 1  # raised when the pictures change
SPLITS = ('train', 'val', 'unlabelled')
_PARTS = (*SPLITS, 'annotations', 'README.md', 'settings.json')


def build_digit_scenes(
    out: str | Path,
    train: int = 240,
    val: int = 80,
    unlabelled: int = 400,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    force: bool = False,
) -> dict:
    """Write the digit scenes data set, or find it already there.

    Image i of a split depends on (seed, split, i, size) only, and two runs
    write the same bytes. The folder is moved into place when complete.

    Args:
        out: Folder to create.
        train: Number of train images.
        val: Number of val images.
        unlabelled: Number of images without annotations.
        size: (width, height) of every image in pixels.
        seed: Seed.
        force: Replace a digit scenes folder made with other settings or
            changed since. Folders of any other kind are never replaced.

    Returns:
        The settings, as in ``settings.json``.

    Raises:
        FileExistsError: If ``out`` holds something else, see ``force``.
        ImportError: If scikit-learn or scikit-image is missing.
        ValueError: If a count, the size or the seed is out of range.
    """
    counts = dict(train=train, val=val, unlabelled=unlabelled)
    if (
        min(val, unlabelled, seed) < 0
        or train < 1
        or min(size) < 48
        or max(size) > 1024
    ):
        raise ValueError(
            'train must be >= 1; val, unlabelled and seed >= 0; size 48 to '
            f'1024 pixels per side: got {counts}, seed={seed}, size={size}'
        )
    out = Path(out).expanduser().resolve()
    settings = dict(
        generator='mmfgl digit scenes',
        generator_version=GENERATOR_VERSION,
        seed=seed,
        size=list(size),
        counts=counts,
    )
    if present := _already_there(out, settings, force):
        print(f'Digit scenes are already there: {out}')
        return present
    for split in BACKGROUNDS:  # what is missing is reported before any work
        load_digits_of(split)
        load_backgrounds(split)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f'.{out.name}-', dir=out.parent
    ) as scratch:
        new = Path(scratch) / 'new'
        new.mkdir()
        for split in SPLITS:
            _write_split(new, split, settings)
        readme = README.format(size=size, seed=seed, **counts)
        (new / 'README.md').write_text(readme, encoding='utf-8')
        settings['digest'] = _digest(new)
        (new / 'settings.json').write_text(json.dumps(settings, indent=2))
        _move_into_place(new, out)
    print(f'Digit scenes written to {out}')
    return settings


def _digest(root: Path) -> str:
    """SHA-256 of names and contents of the pictures and annotations.

    Files of other kinds (caches, say) are not looked at.
    """
    names = [f'{split}/*.jpg' for split in SPLITS]
    names += ['annotations/train.json', 'annotations/val.json']
    total = hashlib.sha256()
    for path in sorted(path for name in names for path in root.glob(name)):
        total.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return total.hexdigest()


def _already_there(out: Path, wanted: dict, force: bool) -> dict | None:
    """The settings in ``out`` if they are the wanted ones, else None.

    Raises:
        FileExistsError: If ``out`` is something that may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        found = json.loads((out / 'settings.json').read_text())
        ours = found['generator'] == wanted['generator']
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(
            f'{out} exists and was not made by digit_scenes, so it will not '
            'be touched, not even by --force; choose another --out'
        )
    differing = [
        f'{key} {found.get(key)} there, {value} wanted'
        for key, value in wanted.items()
        if found.get(key) != value
    ]
    if not differing and found.get('digest') == _digest(out):
        return found
    if force:
        return None
    reason = 'its files are incomplete or changed (another digest)'
    if differing:
        reason = f'other settings: {", ".join(differing)}'
    raise FileExistsError(
        f'{out} holds digit scenes, but {reason}; use --force to replace '
        'them, or choose another --out'
    )


def _write_split(root: Path, split: str, settings: dict) -> None:
    """Render one split into ``root / split`` and write its annotations."""
    width, height = settings['size']
    pool = 'train' if split == 'unlabelled' else split
    (root / split).mkdir()
    images, annotations = [], []
    for index in range(settings['counts'][split]):
        seeds = [settings['seed'], SPLITS.index(split), index]
        rng = np.random.default_rng(seeds)
        picture, instances = render_scene(rng, pool, width, height)
        path = root / split / f'{index:06d}.jpg'
        jpeg = [cv2.IMWRITE_JPEG_QUALITY, 92]
        if not cv2.imwrite(str(path), picture, jpeg):
            raise OSError(f'cannot write {path}')
        image = dict(file_name=path.name, width=width, height=height)
        images.append(dict(id=index + 1, **image))
        for instance in instances:
            visible = np.asfortranarray(instance.visible, np.uint8)
            rle = coco_mask.encode(visible)
            rle['counts'] = rle['counts'].decode()
            box = [float(value) for value in instance.box]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=index + 1,
                    category_id=instance.label + 1,
                    bbox=box,
                    # the box's: strokes are thin, so by the mask's area no
                    # digit would be 'large'
                    area=box[2] * box[3],
                    iscrowd=0,
                    segmentation=rle,
                )
            )
    if split == 'unlabelled':
        return
    coco = dict(images=images, annotations=annotations)
    coco['categories'] = [dict(id=i + 1, name=str(i)) for i in range(10)]
    (root / 'annotations').mkdir(exist_ok=True)
    path = root / 'annotations' / f'{split}.json'
    path.write_text(json.dumps(coco, sort_keys=True))


def _move_into_place(new: Path, out: Path) -> None:
    """Replace the parts of ``out`` by those of ``new``.

    Other files of the user stay. The settings go last: an interrupted
    replacement is then seen by the digest and can be forced.
    """
    if not out.exists():
        new.rename(out)
        return
    for part in _PARTS:
        if (out / part).is_dir():
            shutil.rmtree(out / part)
        (new / part).replace(out / part)
