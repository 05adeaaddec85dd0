"""The data of a run: read, split, and written where its configs read them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os.path as osp
from pathlib import Path

from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.formats import (
    Dataset,
    Split,
    read_dataset,
    split_dataset,
)
from mmfgl.utils.formats.copies import Copies
from mmfgl.utils.names import printable

#: Of a run's folder: photographs to pretrain on, one a line.
PRETRAINING = Path('data', 'pretraining.txt')


def read_photos(
    photos: str | Path,
    labels: str | Path | None = None,
    val: str | Path | None = None,
) -> Dataset:
    """Read and audit a data set and split ``val`` off if it has none.

    A ``test`` split without ``val`` is taken as ``val``; beside a ``val`` it
    is left alone.

    Args:
        photos: See :func:`mmfgl.utils.formats.read_dataset`.
        labels: See there.
        val: Annotations of those of the photographs to validate on; only
            these are validated on then.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The labels are not what they seem; names files.
    """
    dataset = read_dataset(photos, labels)
    splits, notes = dict(dataset.splits), list(dataset.notes)
    if val is not None:
        splits['val'], told = _read_val(dataset, photos, val)
        notes += told
    elif 'val' not in splits and 'test' in splits:
        splits['val'] = splits.pop('test')
        notes.append('test is taken as val: no val was given')
    if odd := [path for path in dataset.all_photos() if _is_odd(path)]:
        notes.append(
            f'{len(odd)} photographs are not pretrained on: a list of names '
            'cannot hold a line break or a backslash, as in '
            f'{printable(odd[0])!r}; rename them'
        )
    dataset = dataclasses.replace(dataset, splits=splits, notes=notes)
    if number := len(dataset.unlabelled()):
        notes.append(f'{number} photographs in no split: for pretraining only')
    return split_dataset(dataset)


def _read_val(
    dataset: Dataset, photos: str | Path, val: str | Path
) -> tuple[Split, list[str]]:
    """Annotations of a file of its own with the classes' ids, and notes.

    Raises:
        ValueError: They list other classes, or photographs to train on.
    """
    other = read_dataset(photos, val)
    split = other.splits['train']
    if set(other.classes) != set(dataset.classes):
        raise ValueError(
            f'{val} has the classes {", ".join(other.classes)}, the labels to '
            f'train on {", ".join(dataset.classes)}: give both the same list '
            'of categories'
        )
    train = dataset.splits['train']
    files = Copies(train.paths())
    if shared := [path for path in split.paths() if files.find(path)]:
        raise ValueError(
            f'{len(shared)} photographs of {val} are among those to train on '
            f'({min(shared)}): leave --val out to split them, or take them '
            'out of one file'
        )
    categories = train.content['categories']
    ids = {category['name']: category['id'] for category in categories}
    new = {c['id']: ids[c['name']] for c in split.content['categories']}
    annotations = [
        dict(ann, category_id=new[ann['category_id']])
        for ann in split.content['annotations']
    ]
    content = dict(split.content, categories=categories)
    split = Split(dict(content, annotations=annotations), split.root)
    return split, other.notes


def pretraining_photos(dataset: Dataset) -> list[str]:
    """All photographs, labelled or not, but those of ``val`` and ``test``.

    A link to one of them, or a copy of its file, is that one. Names that a
    list cannot hold are left out; :func:`read_photos` tells of them.
    """
    held_out = Copies(dataset.held_out)
    for name, split in dataset.splits.items():
        for path in split.paths() if name != 'train' else ():
            held_out.add(path)
    photos = (path for path in dataset.all_photos() if not _is_odd(path))
    return [path for path in photos if held_out.find(path) is None]


def _is_odd(path: str) -> bool:
    """Whether a text list of images cannot hold a path."""
    return any(letter in path for letter in '\n\\')


def digest_of(dataset: Dataset) -> str:
    """A digest of labels and names of photographs, not of their pixels."""
    contents = {name: s.content for name, s in dataset.splits.items()}
    text = json.dumps([contents, dataset.all_photos()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_photos(dataset: Dataset, out: Path) -> None:
    """Write annotations and the photographs to pretrain on into ``out/data``.

    The annotations are COCO JSONs, ``annotations/{train,val,test}.json``; the
    same data give the same bytes.
    """
    for name, split in dataset.splits.items():
        text = json.dumps(split.content, separators=(',', ':'))
        path = out / 'data' / 'annotations' / f'{name}.json'
        write_atomically(text.encode('ascii'), path)
    names = [
        _relative(path, dataset.photos) for path in pretraining_photos(dataset)
    ]
    text = ''.join(f'{name}\n' for name in names)
    data = text.encode('utf-8', 'surrogateescape')
    write_atomically(data, out / PRETRAINING)


def _relative(path: str, folder: str) -> str:
    """A path below a folder relative to it, another as it is."""
    inner = osp.relpath(path, folder)
    if inner.startswith(osp.pardir):
        return path
    # readers of lists drop blanks before a name
    return inner if inner == inner.lstrip() else osp.join(osp.curdir, inner)


def describe(dataset: Dataset) -> str:
    """The data in some lines, with what the audit has found."""
    lines = [f'Data: {dataset.layout}']
    held_out = []
    for name, split in dataset.splits.items():
        images, objects = (
            len(split.content[key]) for key in ('images', 'annotations')
        )
        lines.append(f'  {name}: {images} photographs, {objects} objects')
        held_out += [f'the {images} of {name}'] * (name != 'train')
    lines += [
        f'  {len(dataset.classes)} classes: {", ".join(dataset.classes)}',
        f'  pretraining: {len(pretraining_photos(dataset))} photographs, '
        f'labelled or not; {" and ".join(held_out)} are never among them',
        *(f'  note: {note}' for note in dataset.notes),
    ]
    return '\n'.join(lines)
