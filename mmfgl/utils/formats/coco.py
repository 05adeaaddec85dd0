"""COCO JSONs: one file, a file a split, or a Roboflow export."""

from __future__ import annotations

import json
import os.path as osp
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mmfgl.utils.audit import AuditReport, read_coco
from mmfgl.utils.formats.base import (
    Dataset,
    find_images,
    only_train,
    split_name,
)
from mmfgl.utils.formats.finishing import finish

ROBOFLOW = '_annotations.coco.json'
LOOKED_FOR = (
    'annotations/train.json or annotations/instances_train*.json (and val, '
    'test), or one COCO JSON beside the images',
    f'train/{ROBOFLOW} (and valid/, test/), as Roboflow exports COCO',
)
# folders that images of a split lie in, after the split's name
_ALIASES = dict(
    train=('train', 'train2017'),
    val=('val', 'valid', 'validation', 'val2017'),
    test=('test', 'test2017'),
)
SAMPLE = 100  # images that are looked for in a folder to choose it


class CocoPlan(NamedTuple):
    """A COCO data set, before its files are read."""

    files: dict[str, Path]  # annotation file of each split
    notes: list[str]


def find_coco(photos: Path, labels: Path | None) -> CocoPlan | None:
    """Annotation file of each split; ``None`` if it is no such layout.

    Raises:
        ValueError: Several files claim to be the same split, or none says
            which it is.
    """
    if labels is not None and labels.is_file():
        only = CocoPlan({'train': labels}, [])
        return only if labels.suffix.lower() == '.json' else None
    folder = labels or photos
    roboflow = [folder / ROBOFLOW, *sorted(folder.glob(f'*/{ROBOFLOW}'))]
    roboflow = [path for path in roboflow if path.is_file()]
    if roboflow:
        return _of_roboflow(roboflow)
    for place in (folder / 'annotations', folder):
        paths = _jsons(place)
        named = [(split_name(path.stem), path) for path in paths]
        if any(name for name, _ in named):
            return CocoPlan(_by_split(named), [])
        paths = [path for path in paths if _looks_like_coco(path)]
        if len(paths) > 1:
            names = ', '.join(path.name for path in paths)
            raise ValueError(
                f'{place} holds several COCO JSONs, {names}, none named '
                'train.json, val.json or test.json: rename them, or give one '
                'of them as labels'
            )
        if paths:
            return CocoPlan({'train': paths[0]}, [])
    return None


def _jsons(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() == '.json')


def _of_roboflow(paths: list[Path]) -> CocoPlan:
    named = [(split_name(path.parent.name), path) for path in paths]
    if len(paths) == 1:
        return CocoPlan({named[0][0] or 'train': paths[0]}, [])
    parts = _by_split(named)
    unplaced = ', '.join(str(path) for name, path in named if name is None)
    if unplaced and 'train' not in parts:
        raise ValueError(
            f'{unplaced}: in no folder named train, valid or test, and no '
            'other file is to train on: name the folders so, or give one of '
            'these files as labels'
        )
    note = f'{unplaced}: in no folder named train, valid or test: not read'
    return CocoPlan(parts, [note] if unplaced else [])


def _by_split(named: list[tuple[str | None, Path]]) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for name, path in named:
        if name is not None and parts.setdefault(name, path) != path:
            raise ValueError(
                f'both {parts[name]} and {path} hold the labels of {name}: '
                'remove or rename one'
            )
    return parts


def _looks_like_coco(path: Path) -> bool:
    """Whether it is a dict with images; a broken file will tell of itself."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return True
    return isinstance(content, dict) and 'images' in content


def read_coco_layout(photos: Path, plan: CocoPlan) -> Dataset:
    """Read the annotation file of each split; see :func:`find_coco`.

    Images are looked for in the folder itself and in those named after
    split or file. If none is there, a file that lies elsewhere below
    ``photos`` is found by its name, if that is there once.

    Raises:
        ValueError: The labels are not what they seem; names files.
    """
    files, notes = plan.files, list(plan.notes)
    parts = {}
    for name, path in only_train(files, photos, notes).items():
        report = AuditReport(str(path))
        content = read_coco(str(path), report, labels=True)
        root = _locate(content, name, path, photos, report)
        parts[name] = (content, root, report)
    _drop_parent([content for content, _, _ in parts.values()], notes)
    others = {p for f in files.values() for p in _jsons(f.parent)}
    others = sorted(others - set(files.values()))
    if others:
        names = ', '.join(path.name for path in others[:5])
        notes.append(f'{others[0].parent}: other JSON files not read: {names}')
    roboflow = all(path.name == ROBOFLOW for path in files.values())
    kind = 'Roboflow export (COCO)' if roboflow else 'COCO'
    layout = f'{kind}: {", ".join(map(str, files.values()))}'
    return finish(parts, photos, layout, notes)


def _locate(
    content: dict, split: str, path: Path, photos: Path, report: AuditReport
) -> str:
    """Folder of a file's images, whose names it mends in place."""
    images = [
        image
        for image in content['images']
        if isinstance(image.get('file_name'), str)
    ]
    some = images[:: max(1, len(images) // SAMPLE)]
    folders = list(dict.fromkeys(_folders(split, path, photos)))

    def hits(folder: Path) -> int:
        return sum(_is_file(folder, image) for image in some)

    root = max(folders, key=hits)  # the first of equals
    if not any(_is_file(root, image) for image in images):
        _find_by_name(images, split, Path(root), photos, report)
    return str(root)


def _find_by_name(
    images: list[dict],
    split: str,
    root: Path,
    photos: Path,
    report: AuditReport,
) -> None:
    """Look below ``photos`` for images none of which is where it should be.

    Folders named after another split are left out: names like 0001.jpg are
    in each.
    """
    places = defaultdict(list)
    for name in find_images(photos):
        if all(split_name(f) in (None, split) for f in Path(name).parts[:-1]):
            places[osp.basename(name)].append(name)
    for image in images:
        name = image['file_name']
        found = places[name.replace('\\', '/').rpartition('/')[2]]
        if len(found) == 1:
            text = 'images in another folder than the JSON says: found there'
            report.add('repair', text, f'{name} is {found[0]}')
            there = osp.relpath(photos / found[0], root)
            image['file_name'] = Path(there).as_posix()
        elif found:
            text = (
                'images that are not where the JSON says, while several '
                'files of the name are elsewhere: mend file_name'
            )
            report.add('error', text, f'{name}: {", ".join(found[:3])}')


def _folders(split: str, path: Path, photos: Path) -> list[Path]:
    """Where images of a split may lie, the likeliest first."""
    names = (path.parent.name, *_ALIASES[split], path.stem)
    if path.name == ROBOFLOW:
        return [path.parent, photos]
    found = [photos]
    for base in (photos, path.parent.parent, path.parent):
        found += [base / 'images' / name for name in names]
        found += [base / name for name in names]
        found += [base / name / 'images' for name in names]
        found += [base / 'images', base]
    return found


def _is_file(folder: Path, image: dict) -> bool:
    name = image['file_name']
    names = {name, name.replace('\\', '/')}  # of Windows, which audit mends
    try:
        return any((folder / name).is_file() for name in names)
    except (OSError, ValueError):  # too long, a null byte
        return False


def _drop_parent(contents: list[dict], notes: list[str]) -> None:
    """Drop the category 0 that groups the others and has no object.

    Roboflow writes it: the classes name it as their supercategory.
    """
    categories = [c for content in contents for c in content['categories']]
    parents = {
        str(c.get('supercategory')) for c in categories if c.get('id') != 0
    }
    zero = {str(c.get('name')) for c in categories if c.get('id') == 0}
    used = any(
        ann.get('category_id') in (0, '0')
        for content in contents
        for ann in content['annotations']
    )
    if used or len(zero) != 1 or not zero <= parents:
        return
    for content in contents:
        kept = [c for c in content['categories'] if c.get('id') != 0]
        content['categories'] = kept
    notes.append(
        f'category 0, {zero.pop()!r}, groups the others and has no object: '
        'dropped'
    )
