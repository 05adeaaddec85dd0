"""A labelled data set in one layout, whatever it was read from."""

from __future__ import annotations

import os
import os.path as osp
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmfgl.utils.audit import AuditReport, Use, audit_content
from mmfgl.utils.audit.classes import plain_name
from mmfgl.utils.audit.images import EXTENSIONS

PARTS = ('train', 'val', 'test')
_SPLIT = re.compile(
    r'(?:instances[_-])?(train|val|valid|validation|test)(?:20\d\d)?', re.I
)


@dataclass
class Split:
    """Images and objects of one part of a data set.

    Attributes:
        content: COCO dict with ``images, annotations, categories``; boxes are
            (x, y, width, height) in pixels of the image turned upright by its
            EXIF orientation.
        root: Absolute folder that the ``file_name`` s are relative to.
    """

    content: dict
    root: str

    def paths(self) -> list[str]:
        """Absolute paths of the images."""
        names = (image['file_name'] for image in self.content['images'])
        return [osp.normpath(osp.join(self.root, name)) for name in names]


@dataclass
class Dataset:
    """Splits of one data set; all list the same categories.

    Attributes:
        splits: ``'train'``, and ``'val'``, ``'test'`` if they are given.
        photos: Absolute folder of the photographs, labelled or not.
        layout: What it was recognised as.
        notes: What was repaired, left out or looks odd, one line each.
    """

    splits: dict[str, Split]
    photos: str
    layout: str
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the categories."""
        categories = self.splits['train'].content['categories']
        return tuple(category['name'] for category in categories)

    def all_photos(self) -> list[str]:
        """Absolute paths of all photographs, sorted: of splits and folder."""
        found = {p for split in self.splits.values() for p in split.paths()}
        found |= {osp.join(self.photos, n) for n in find_images(self.photos)}
        return sorted(found)

    def unlabelled(self) -> list[str]:
        """Absolute paths of the photographs that no split lists, sorted."""
        listed = {p for split in self.splits.values() for p in split.paths()}
        return [path for path in self.all_photos() if path not in listed]


def find_images(folder: str | Path) -> list[str]:
    """Image files of a folder and its sub-folders, relative, sorted.

    Hidden ones are left out, as are those of a Mac's archive (``._a.jpg``).
    """
    return find_files(folder, EXTENSIONS)


def find_files(folder: str | Path, endings: str | tuple) -> list[str]:
    """Files of some endings in any case, as :func:`find_images`.

    Links are followed, to each folder once.
    """
    found, seen = [], set()
    for root, folders, names in os.walk(folder, followlinks=True):
        real = osp.realpath(root)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [f for f in folders if f[0] != '.' and f != '__MACOSX']
        found += [
            osp.relpath(osp.join(root, name), folder)
            for name in names
            if name[0] != '.' and name.lower().endswith(endings)
        ]
    return sorted(found)


def split_name(stem: str) -> str | None:
    """``train``, ``val`` or ``test`` of a file or folder named after it."""
    match = _SPLIT.fullmatch(stem)
    if match is None:
        return None
    name = match[1].lower()
    return 'val' if name.startswith('val') else name


def only_train(
    parts: dict[str, Any], source: str | Path, notes: list[str]
) -> dict[str, Any]:
    """Parts in the order train, val, test; a single one becomes ``train``.

    Raises:
        ValueError: There are several, and none is to train on.
    """
    if 'train' in parts:
        return {name: parts[name] for name in PARTS if name in parts}
    if len(parts) > 1:
        names = ' and '.join(parts)
        raise ValueError(f'{source}: no part to train on, only {names}')
    ((name, part),) = parts.items()
    notes.append(f'{source}: the only part is {name!r}: taken as train')
    return {'train': part}


def finish(
    contents: Mapping[str, tuple[dict, str, AuditReport]],
    photos: str | Path,
    layout: str,
    notes: list[str],
) -> Dataset:
    """Audit the parts, mend them and give them the same categories.

    Args:
        contents: COCO dict, image folder and findings of each part.
        photos: Folder of all photographs.
        layout: Name of the layout.
        notes: What is known already.

    Raises:
        ValueError: The labels are not what they seem; a line each, with files.
    """
    splits, failures = {}, []
    for name, (content, root, report) in contents.items():
        root = osp.abspath(root)
        use = Use(report.path, root, train=name == 'train')
        if not report.findings('error'):
            audit_content(content, use, report)
        failures.append(report.failure())
        found = report.findings('warning', 'repair')
        notes += [f'{report.path}: {finding}' for finding in found]
        if name != 'train' and not report.objects['used']:
            notes.append(f'{report.path}: {name} has no object: left out')
            continue
        _drop_unreadable(content, root, report, notes)
        splits[name] = Split(content, root)
    if any(failures):
        raise ValueError('\n'.join(filter(None, failures)))
    _share_categories([split.content for split in splits.values()], notes)
    _tell_like_names(splits['train'].content['categories'], notes)
    dataset = Dataset(splits, osp.abspath(photos), layout, notes)
    if number := len(dataset.unlabelled()):
        notes.append(f'{number} photographs in no split: for pretraining only')
    return dataset


def _drop_unreadable(
    content: dict, root: str, report: AuditReport, notes: list[str]
) -> None:
    """Take out images without a readable file, and their objects."""
    kept = []
    for image in content['images']:
        path = osp.normpath(osp.join(root, image['file_name']))
        header = report.headers.get(path)
        if header is not None and header.width:
            kept.append(image)
    lost = len(content['images']) - len(kept)
    if not lost:
        return
    ids = {image['id'] for image in kept}
    anns = [a for a in content['annotations'] if a['image_id'] in ids]
    objects = len(content['annotations']) - len(anns)
    notes.append(
        f'{report.path}: {lost} images without a readable file are left out, '
        f'and their {objects} objects'
    )
    content['images'], content['annotations'] = kept, anns


def _tell_like_names(categories: list[dict], notes: list[str]) -> None:
    """Name the classes that may be one, written in two ways."""
    groups = defaultdict(list)
    for category in categories:
        groups[plain_name(category['name'])].append(repr(category['name']))
    for names in groups.values():
        if len(names) > 1:
            notes.append(
                f'classes that differ in case or blanks alone: '
                f'{" and ".join(names)}; if they are one, rename them'
            )


def _share_categories(contents: list[dict], notes: list[str]) -> None:
    """One list of categories, in the order of the first part, in place.

    Objects of categories that their own part does not list are dropped, of
    which the audit has told.
    """
    shared: dict[str, dict] = {}
    for content in contents:
        for category in content['categories']:
            name = category['name']
            if name not in shared and shared and content is not contents[0]:
                notes.append(f'class {name!r} is not listed by train: added')
            shared.setdefault(name, category)
    ids = {name: category['id'] for name, category in shared.items()}
    first = len(contents[0]['categories'])
    if len(shared) > first or not all(type(i) is int for i in ids.values()):
        ids = {name: number for number, name in enumerate(shared, 1)}
    for content in contents:
        new = {c['id']: ids[c['name']] for c in content['categories']}
        content['annotations'] = [
            dict(ann, category_id=new[ann['category_id']])
            for ann in content['annotations']
            if ann['category_id'] in new
        ]
        content['categories'] = [
            dict(category, id=ids[name]) for name, category in shared.items()
        ]
