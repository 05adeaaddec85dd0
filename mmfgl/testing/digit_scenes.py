"""Build the embedded data set *digit scenes*: small, real pixels, offline.

A COCO-format 10-class detection set with masks, made of real handwritten
digits on real photographs, see :mod:`mmfgl.testing.digit_scenes_render`.
It exists so that a fresh machine without any download can run the whole
chain (pretraining, detection, test-time augmentation) in minutes.

Layout of the output folder::

    train/ val/ unlabelled/      000000.jpg, 000001.jpg, ...
    annotations/train.json  annotations/val.json
    README.md                    provenance and licences
    settings.json                arguments, sources and digests
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np

from mmfgl.testing.digit_scenes_render import (
    Instance,
    render_scene,
    visible_box,
)
from mmfgl.testing.digit_scenes_sources import (
    BACKGROUNDS,
    README,
    load_backgrounds,
    load_digits_of,
)

# Raise this when a change of the renderer changes the pictures, so that a
# folder made by an older version is recognised as different.
GENERATOR_VERSION = 1
SPLITS = ('train', 'val', 'unlabelled')
_PARTS = (*SPLITS, 'annotations', 'README.md', 'settings.json')
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 92]


def build_digit_scenes(
    out: str | Path,
    train: int = 240,
    val: int = 80,
    unlabelled: int = 400,
    size: tuple[int, int] = (320, 240),
    seed: int = 0,
    force: bool = False,
    verbose: bool = True,
) -> dict:
    """Write the digit scenes data set, or find it already there.

    Image i of a split depends on (seed, split, i, size) only: another count
    changes no image, and two runs write byte-identical files. The folder is
    built beside ``out`` and moved into place when complete.

    Args:
        out: Folder to create.
        train: Number of train images.
        val: Number of val images.
        unlabelled: Number of images without annotations.
        size: (width, height) of every image in pixels.
        seed: Seed of all random choices.
        force: Replace a digit scenes folder made with other settings or
            changed since. Folders of any other kind are never replaced.
        verbose: Print progress.

    Returns:
        The settings, as in ``settings.json``.

    Raises:
        FileExistsError: If ``out`` holds something else, see ``force``.
        FileNotFoundError: If scikit-image came without its pictures.
        ModuleNotFoundError: If scikit-learn or scikit-image is missing.
        ValueError: If a count, the size or the seed is out of range.
    """
    counts = {'train': train, 'val': val, 'unlabelled': unlabelled}
    if min(counts.values()) < 0 or train < 1 or seed < 0:
        raise ValueError(
            'train must be >= 1; val, unlabelled and seed >= 0; '
            f'got {counts}, seed={seed}'
        )
    if min(size) < 48 or max(size) > 1024:
        raise ValueError(
            f'size must be 48 to 1024 pixels per side, got {size}: the '
            'digits would be illegible, or the backgrounds mush'
        )
    out = Path(out).expanduser().resolve()
    settings = {
        'generator': 'mmfgl digit scenes',
        'generator_version': GENERATOR_VERSION,
        'seed': seed,
        'size': list(size),
        'counts': counts,
    }
    present = _already_there(out, settings, force)
    if present is not None:
        if verbose:
            print(f'Digit scenes are already there: {out}')
        return present

    load_digits_of('train')  # missing packages are reported before any work
    for split in BACKGROUNDS:
        load_backgrounds(split)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f'.{out.name}-', dir=out.parent
    ) as scratch:
        new = Path(scratch) / 'new'
        new.mkdir()
        for split in SPLITS:
            _write_split(new, split, settings, verbose)
        width, height = size
        (new / 'README.md').write_text(
            README.format(width=width, height=height, seed=seed, **counts),
            encoding='utf-8',
        )
        settings['backgrounds'] = {
            split: [f'{package}/{name}' for package, name in names]
            for split, names in BACKGROUNDS.items()
        }
        settings['digests'] = folder_digests(new)
        _write_json(new / 'settings.json', settings, indent=2)
        _move_into_place(new, out)
    if verbose:
        print(f'Digit scenes written to {out}')
    return settings


def folder_digests(root: Path) -> dict[str, str]:
    """SHA-256 of each part of a digit scenes folder.

    Names and contents count, so a missing, additional or changed image
    changes the digest. Files of other kinds (caches, say) are not looked at.

    Args:
        root: The folder.

    Returns:
        Digest per part: train, val, unlabelled, annotations.
    """
    digests = {}
    for part in (*SPLITS, 'annotations'):
        total = hashlib.sha256()
        files = ['*.jpg'] if part in SPLITS else ['train.json', 'val.json']
        paths = [p for name in files for p in (root / part).glob(name)]
        for path in sorted(paths):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f'{path.name} {content}\n'.encode())
        digests[part] = total.hexdigest()
    return digests


def _already_there(out: Path, wanted: dict, force: bool) -> dict | None:
    """Return the settings found in ``out`` if they are the wanted ones.

    Returns:
        The settings, or None if the set is to be built.

    Raises:
        FileExistsError: If ``out`` is something that may not be replaced.
    """
    if not out.exists():
        return None
    if out.is_dir() and not any(out.iterdir()):
        return None
    try:
        found = json.loads((out / 'settings.json').read_text())
        ours = found['generator'] == wanted['generator']
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise FileExistsError(
            f'{out} exists and was not made by digit_scenes (no settings.json '
            'of it there), so it will not be touched, not even by --force; '
            'choose another --out'
        )
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if not differing and found.get('digests') == folder_digests(out):
        return found
    if force:
        return None
    reason = (
        'other settings: '
        + ', '.join(
            f'{key} {found.get(key)} there, {wanted[key]} wanted'
            for key in differing
        )
        if differing
        else 'its files are incomplete or changed (digests differ)'
    )
    raise FileExistsError(
        f'{out} holds digit scenes, but {reason}; use --force to replace '
        'them, or choose another --out'
    )


def _write_split(root: Path, split: str, settings: dict, verbose: bool):
    """Render one split into ``root / split`` and write its annotations."""
    count = settings['counts'][split]
    width, height = settings['size']
    pool = 'val' if split == 'val' else 'train'
    (root / split).mkdir()
    images, annotations = [], []
    for index in range(count):
        rng = np.random.default_rng(
            [settings['seed'], SPLITS.index(split), index]
        )
        picture, instances = render_scene(rng, pool, width, height)
        name = f'{index:06d}.jpg'
        if not cv2.imwrite(str(root / split / name), picture, _JPEG):
            raise OSError(f'cannot write {root / split / name}')
        images.append(
            {
                'id': index + 1,
                'file_name': name,
                'width': width,
                'height': height,
            }
        )
        for instance in instances:
            annotation = _annotation(instance)
            annotation['id'] = len(annotations) + 1
            annotation['image_id'] = index + 1
            annotations.append(annotation)
        done = index + 1
        if verbose and (done % 100 == 0 or done == count):
            print(f'Digit scenes: {split} {done}/{count}', flush=True)
    if split == 'unlabelled':
        return
    coco = {
        'info': {'description': f'digit scenes, {split}', 'version': '1'},
        'licenses': [],
        'images': images,
        'annotations': annotations,
        'categories': [
            {'id': label + 1, 'name': str(label), 'supercategory': 'digit'}
            for label in range(10)
        ],
    }
    (root / 'annotations').mkdir(exist_ok=True)
    _write_json(root / 'annotations' / f'{split}.json', coco)


def _annotation(instance: Instance) -> dict:
    """COCO annotation of one digit: (x, y, w, h) box and RLE mask."""
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(instance.visible, np.uint8))
    x1, y1, x2, y2 = visible_box(instance.visible)
    # The box's area, not the mask's: strokes are thin, so by mask area no
    # digit would be 'large' and box AP by size would say nothing.
    return {
        'category_id': instance.label + 1,
        'bbox': [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
        'area': float((x2 - x1) * (y2 - y1)),
        'iscrowd': 0,
        'segmentation': {
            'size': [int(n) for n in rle['size']],
            'counts': rle['counts'].decode('ascii'),
        },
    }


def _write_json(path: Path, content: dict, indent: int | None = None):
    """Write JSON whose bytes depend on the content only."""
    text = json.dumps(content, sort_keys=True, indent=indent)
    path.write_text(text + '\n', encoding='utf-8')


def _move_into_place(new: Path, out: Path):
    """Replace the parts of ``out`` by those of ``new``.

    A fresh folder appears at once. In an existing one, other files of the
    user stay, and the settings file goes last: an interrupted replacement is
    then seen by its digests and can be forced.
    """
    if not out.exists():
        new.rename(out)
        return
    for part in _PARTS:
        if (out / part).is_dir():
            shutil.rmtree(out / part)
        (new / part).replace(out / part)
