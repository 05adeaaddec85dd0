"""A labelled data set in one layout, whatever it was read from."""

from __future__ import annotations

import os
import os.path as osp
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmfgl.utils.names import IMG_EXTENSIONS, is_hidden

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
        held_out: Absolute paths of photographs of ``val`` and ``test`` that
            are in no split, for they show no labelled object.
    """

    splits: dict[str, Split]
    photos: str
    layout: str
    notes: list[str] = field(default_factory=list)
    held_out: list[str] = field(default_factory=list)

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
        """Absolute paths of the photographs of no part, sorted."""
        listed = {p for split in self.splits.values() for p in split.paths()}
        listed.update(self.held_out)
        return [path for path in self.all_photos() if path not in listed]


def find_images(folder: str | Path) -> list[str]:
    """Image files of a folder and its sub-folders, relative, sorted.

    Hidden ones (``._a.jpg``) are left out, as are those that a system keeps
    (a Mac's archive, a network drive's thumbnails).
    """
    return find_files(folder, IMG_EXTENSIONS)


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
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [
            osp.relpath(osp.join(root, name), folder)
            for name in names
            if not is_hidden(name) and name.lower().endswith(endings)
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
        ValueError: There is none, or there are several without ``train``.
    """
    if 'train' in parts:
        return {name: parts[name] for name in PARTS if name in parts}
    if len(parts) != 1:
        names = f', only {" and ".join(parts)}' if parts else ''
        raise ValueError(f'{source}: no part to train on{names}')
    ((name, part),) = parts.items()
    notes.append(f'{source}: the only part is {name!r}: taken as train')
    return {'train': part}
