"""Which XML files are of Pascal VOC, and of which part."""

from __future__ import annotations

import os.path as osp
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mmfgl.utils.formats.base import find_files, split_name

LOOKED_FOR = (
    'Annotations/*.xml and JPEGImages/, or XML files beside the images '
    '(Pascal VOC)',
)
_LISTS = ('train', 'val', 'test')  # of ImageSets/Main


class VocPlan(NamedTuple):
    """A VOC data set, before its XML files are read."""

    folder: Path
    parts: dict[str, list[str]]  # XML files, relative to the folder
    notes: list[str]


def find_voc(photos: Path, labels: Path | None) -> VocPlan | None:
    """XML files of each part; ``None`` if there are none of VOC.

    Parts are those of ``ImageSets/Main``, else the first folders on the paths
    that are named train, val or test.

    Raises:
        ValueError: The list to train on names no XML file.
    """
    if labels is not None and labels.is_file():
        return None
    folder = labels or photos / 'Annotations'
    folder = folder if folder.is_dir() else photos
    names = find_files(folder, '.xml')
    if not any(_is_voc(folder / name) for name in names):
        return None
    lists = folder.parent / 'ImageSets' / 'Main'
    listed = {n: lists / f'{n}.txt' for n in _LISTS}
    listed = {n: path for n, path in listed.items() if path.is_file()}
    if 'train' not in listed and (lists / 'trainval.txt').is_file():
        listed['train'] = lists / 'trainval.txt'
    if listed:
        return _of_lists(folder, names, listed)
    parts = defaultdict(list)
    for name in names:
        known = filter(None, map(split_name, Path(name).parts[:-1]))
        parts[next(known, None)].append(name)
    if None not in parts:
        return VocPlan(folder, dict(parts), [])
    loose, notes = parts.pop(None), []
    if parts:
        notes.append(
            f'{folder}: {len(loose)} XML files in no folder named train, val '
            f'or test ({loose[0]}), so those of {" and ".join(parts)} are '
            'taken as one part with them'
        )
    return VocPlan(folder, {'train': names}, notes)


def _is_voc(path: Path) -> bool:
    with open(path, 'rb') as file:
        return b'<annotation' in file.read(1000)


def _of_lists(
    folder: Path, names: list[str], lists: dict[str, Path]
) -> VocPlan:
    by_stem = {osp.splitext(name)[0]: name for name in names}
    parts, notes = {}, []
    for part, path in lists.items():
        lines = map(
            str.strip,
            path.read_text('utf-8-sig', 'surrogateescape').splitlines(),
        )
        found = {line: _listed(line, by_stem) for line in lines if line}
        parts[part] = list(dict.fromkeys(filter(None, found.values())))
        lost = [line for line, name in found.items() if name is None]
        if lost:
            notes.append(
                f'{path}: {len(lost)} images without an XML: left out '
                f'({lost[0]})'
            )
    empty = [path for part, path in lists.items() if not parts[part]]
    if lists.get('train') in empty or len(empty) == len(lists):
        raise ValueError(
            f'{" and ".join(map(str, empty))}: no line is the name of an XML '
            f'file in {folder}, such as {min(by_stem)}: mend the names, or '
            'remove the list'
        )
    used = {name for part in parts.values() for name in part}
    if len(used) < len(names):
        rest = sorted(set(names) - used)
        notes.append(
            f'{len(rest)} XML files in no list of {path.parent}: left out '
            f'({rest[0]})'
        )
    held_out = set(parts.get('val', ()))
    if 'train' in lists and lists['train'].stem == 'trainval':
        train = [name for name in parts['train'] if name not in held_out]
        if both := len(parts['train']) - len(train):
            notes.append(
                f'{lists["train"]}: taken as train, without the {both} images '
                f'of {lists["val"].name}'
            )
        parts['train'] = train
    return VocPlan(folder, {k: v for k, v in parts.items() if v}, notes)


def _listed(line: str, by_stem: dict[str, str]) -> str | None:
    """XML file of a line ``NAME``, ``NAME.jpg`` or ``NAME 1``, or none."""
    for name in (line, line.split()[0]):
        for stem in (name, osp.splitext(name)[0]):
            if stem in by_stem:
                return by_stem[stem]
    return None
