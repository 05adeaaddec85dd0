"""What a ``data.yaml`` says, and where that really lies."""

from __future__ import annotations

import os.path as osp
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from mmfgl.utils.formats.base import find_files, split_name

_KEYS = ('train', 'val', 'valid', 'validation', 'test')


class YoloPlan(NamedTuple):
    """A YOLO data set, before its labels are read."""

    source: Path  # that names the classes: data.yaml or classes.txt
    classes: list[str]
    parts: dict[str, list[Path]]  # folders or lists (.txt) of images
    labels: Path | None  # folder of the labels, if it is given
    notes: list[str]
    keypoints: int = 0  # numbers of keypoints after each box


def find_yolo(photos: Path, labels: Path | None) -> YoloPlan | None:
    """The data set of a ``data.yaml`` or ``classes.txt``; else ``None``.

    Raises:
        ValueError: The file is wrong, or there are labels without names.
    """
    if labels is not None and labels.is_file():
        if labels.suffix not in ('.yaml', '.yml'):
            return None
        content = _load(labels)
        if not _names_classes(content):
            raise ValueError(f'{labels} names no classes: it has no key names')
        return _of_yaml(labels, content, photos, None)
    places = [photos]
    if labels is not None:
        places = [labels, photos, photos.parent, *labels.parents[:2]]
    if labels is None:
        sources = sorted([*photos.glob('*.yaml'), *photos.glob('*.yml')])
        loaded = [(path, _load(path, path.stem == 'data')) for path in sources]
        loaded = [(path, c) for path, c in loaded if _is_yolo(c)]
        if len(loaded) > 1:
            names = ', '.join(path.name for path, _ in loaded)
            raise ValueError(
                f'{photos} holds several data sets, {names}: give one of '
                'these files instead of the folder'
            )
        if loaded:
            return _of_yaml(*loaded[0], photos, None)
        places.append(photos / 'labels')
    return _of_names(places, photos, labels)


def _of_names(
    places: list[Path], photos: Path, labels: Path | None
) -> YoloPlan | None:
    """A data set without a ``data.yaml`` that says where images are."""
    folder = labels or photos / 'labels'
    beside = [place / 'classes.txt' for place in places]
    source = next((path for path in beside if path.is_file()), None)
    folder = folder if source is None or folder.is_dir() else photos
    found = (folder / name for name in find_files(folder, '.txt'))
    text = next((path for path in found if _is_label(path)), None)
    if text is None:
        return None
    if source is not None:
        names = _names_of_text(source)
    else:
        yamls = (p for q in places for p in sorted(q.glob('*.y*ml')))
        loaded = ((path, _load(path, strict=False)) for path in yamls)
        named = ((p, c) for p, c in loaded if _names_classes(c))
        source, content = next(named, (None, None))
        if source is None:
            raise ValueError(
                f'{text} looks like a YOLO label, but the classes '
                f'have no names: write {places[0] / "classes.txt"}, one name '
                'a line in the order of the class ids, or a data.yaml'
            )
        names = _names(content, source)
    _refuse_twins(names, source)
    images = photos / 'images' if labels is None else photos
    images = images if images.is_dir() else photos
    parts: dict[str, list[Path]] = {}
    for path in sorted(images.iterdir()):
        if path.is_dir() and (name := split_name(path.name)):
            parts.setdefault(name, []).append(path)
    return YoloPlan(source, names, parts or {'train': [images]}, labels, [])


def _names_of_text(source: Path) -> list[str]:
    """Class names of a ``classes.txt``: the lines count the class ids."""
    try:
        text = source.read_text('utf-8-sig').rstrip()
    except UnicodeDecodeError as error:
        raise ValueError(f'{source}: {error}: save it as UTF-8') from None
    names = [line.strip() for line in text.splitlines()]
    if '' in names:
        raise ValueError(
            f'{source}:{names.index("") + 1} is blank, with names after it, '
            'while class ids are counted by the lines: remove the line if '
            'the labels do not count it, or write a name into it'
        )
    return names


def _is_label(path: Path) -> bool:
    """Whether the first line is of five numbers or more."""
    with open(path, 'rb') as file:
        tokens = file.readline(10000).removeprefix(b'\xef\xbb\xbf').split()
    try:
        return len([float(token) for token in tokens]) >= 5
    except ValueError:
        return False


def _names_classes(content: Any) -> bool:
    return isinstance(content, dict) and 'names' in content


def _is_yolo(content: Any) -> bool:
    return _names_classes(content) and any(key in content for key in _KEYS)


def _load(path: Path, strict: bool = True) -> Any:
    """Content with all scalars as text, so that a class may be called no.

    Raises:
        ValueError: It is no YAML; if not ``strict`` it is as if empty.
    """
    try:
        text = path.read_text('utf-8-sig')
        return yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if not strict:
            return None
        reason = ' '.join(str(error).split())
        raise ValueError(f'{path} is no YAML: {reason}') from None


def _of_yaml(
    source: Path, content: dict, photos: Path, labels: Path | None
) -> YoloPlan:
    names = _names(content, source)
    _refuse_twins(names, source)
    notes: list[str] = []
    parts: dict[str, list[Path]] = {}
    for key in _KEYS:
        entries = content.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            path = _resolve(str(entry), key, source, content, photos, notes)
            if path is not None:
                parts.setdefault(split_name(key), []).append(path)
    if not parts:
        raise ValueError(
            f'{source} says nothing of where its images are: it needs a key '
            'train'
        )
    try:
        points, numbers = content.get('kpt_shape', ('0', '0'))
        keypoints = int(points) * int(numbers)
    except (ValueError, TypeError):
        raise ValueError(
            f'{source}: kpt_shape is no list of two whole numbers'
        ) from None
    return YoloPlan(source, names, parts, labels, notes, keypoints)


def _names(content: dict, source: Path) -> list[str]:
    """Class names by id, from a list or a dict."""
    names = content['names']
    if isinstance(names, dict):
        numbers = [str(i) for i in range(len(names))]
        if set(names) != set(numbers):
            raise ValueError(
                f'{source}: the keys of names are not 0 to {len(names) - 1}, '
                f'but {", ".join(sorted(names)[:8])}'
            )
        names = [names[number] for number in numbers]
    if not (
        isinstance(names, list)
        and names
        and all(isinstance(n, str) and n for n in names)
    ):
        raise ValueError(f'{source}: names is neither a list nor a dict')
    number = content.get('nc')
    if number not in (None, str(len(names))):
        raise ValueError(
            f'{source}: nc is {number}, but names has {len(names)} classes'
        )
    return names


def _refuse_twins(names: list[str], source: Path) -> None:
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise ValueError(f'{source} names {", ".join(twins)} twice')
    if not names:
        raise ValueError(f'{source} names no class')


def _resolve(
    entry: str,
    key: str,
    source: Path,
    content: dict,
    photos: Path,
    notes: list[str],
) -> Path | None:
    """Where an entry of ``train, val, test`` really lies.

    ``path`` and entries are often those of another machine, and Roboflow's
    start at the wrong folder (``../train/images``).

    Raises:
        ValueError: The images to train on are nowhere.
    """
    written = str(content.get('path') or '').replace('\\', '/')
    base = source.parent / Path(written).expanduser()
    entry = entry.replace('\\', '/')
    literal = Path(osp.normpath(base / entry))
    tried = list(_candidates(written, entry, source, photos, literal))
    path = next((path for path in tried if path.exists()), None)
    if path is None:
        told = f'{source}: {key} is {entry!r}'
        told += f' below path {written!r}' if written else ''
        if key == 'train':
            raise ValueError(
                f'{told}, which is nowhere; looked for '
                f'{", ".join(map(str, tried))}'
            )
        notes.append(f'{told}, which is nowhere: left out')
    elif path != literal:
        notes.append(f'{source}: {key} is {entry!r}: found at {path}')
    return path


def _candidates(
    written: str, entry: str, source: Path, photos: Path, literal: Path
) -> Iterator[Path]:
    """Paths to look at, the likeliest first."""
    bases = list(dict.fromkeys((source.parent, photos)))
    inner = entry
    while inner.startswith('../'):
        inner = inner[3:]
    if inner != entry and not written:  # Roboflow
        yield from (base / inner for base in bases)
    yield literal
    yield from (Path(osp.normpath(base / entry)) for base in bases)
    # the end of a path of another machine, as long as it tells the split
    parts = [p for p in Path(written, inner).parts if p not in ('/', '..')]
    own = len(Path(inner).parts) if not inner.startswith('/') else 0
    for start in range(len(parts)):
        end = parts[start:]
        if any(split_name(Path(p).stem) for p in end) or len(end) == own:
            yield from (base.joinpath(*end) for base in bases)
