"""YOLO data sets: a text file an image, a line an object."""

from __future__ import annotations

import itertools
import os
import os.path as osp
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from mmfgl.utils.audit import AuditReport
from mmfgl.utils.audit.headers import Header
from mmfgl.utils.formats.base import (
    Dataset,
    find_images,
    only_train,
)
from mmfgl.utils.formats.content import (
    Labelled,
    readable_headers,
    to_content,
)
from mmfgl.utils.formats.finishing import finish
from mmfgl.utils.formats.yolo_config import YoloPlan
from mmfgl.utils.names import IMG_EXTENSIONS

LOOKED_FOR = (
    'data.yaml with names and train (YOLO), or classes.txt beside images/ and '
    'labels/',
)
FUZZ = 1e-3  # of width or height: how far rounding may lead out of the image


def read_yolo(photos: Path, plan: YoloPlan) -> Dataset:
    """Read images and labels; see :func:`find_yolo`.

    A label is ``class cx cy width height``, or a class and a polygon, whose
    bounding box is taken; all are shares of width and height of the image
    turned upright by its EXIF orientation, as Ultralytics reads it. An image
    with an empty label file has no objects, as one without label file, unless
    most of its part have none: those are not labelled yet.

    Raises:
        ValueError: A label is wrong; names its file and line.
    """
    notes = list(plan.notes)
    images = only_train(_images(plan, notes), plan.source, notes)
    reports = {part: AuditReport(f'{plan.source} ({part})') for part in images}
    texts = _Texts(photos, plan.labels)
    parts: dict[str, list[Labelled]] = {}
    for part, paths in images.items():
        train = part == 'train'
        parts[part] = _read_part(paths, texts, plan, reports[part], train)
    texts.report_orphans(reports['train'])
    contents = {
        part: (*content, reports[part])
        for part, content in to_content(parts, plan.classes).items()
    }
    others = (paths for part, paths in images.items() if part != 'train')
    held_out = itertools.chain.from_iterable(others)
    return finish(contents, photos, f'YOLO: {plan.source}', notes, held_out)


def _images(plan: YoloPlan, notes: list[str]) -> dict[str, list[str]]:
    """Absolute paths of the images of each part, sorted."""
    parts = {}
    for part, places in plan.parts.items():
        found = {path for place in places for path in _listed(place)}
        if found:
            parts[part] = sorted(found)
        else:
            where = ', '.join(map(str, places))
            notes.append(f'no image in {where}: no {part}')
    if not parts:
        raise ValueError(f'{plan.source}: there are no images; {notes[-1]}')
    return parts


def _listed(place: Path) -> Iterator[str]:
    """Images of a folder, or of a text file of paths."""
    if place.is_dir():
        for name in find_images(place):
            yield osp.join(place, name)
        return
    for line in place.read_text('utf-8-sig', 'surrogateescape').splitlines():
        name = line.strip().replace('\\', '/')
        if name:
            near = (place.parent / name, place.parent.parent / name)
            path = next((p for p in near if p.is_file()), near[0])
            yield osp.normpath(path)


class _Texts:
    """The label files of images.

    Args:
        photos: Folder of the photographs.
        labels: Folder of the labels, if it is given.
    """

    def __init__(self, photos: Path, labels: Path | None) -> None:
        self.photos, self.labels = photos, labels
        self._image_of: dict[str, str] = {}
        self._folders: dict[str, set[str]] = defaultdict(set)

    def of(self, image: str, report: AuditReport) -> str | None:
        """Label file of an image, which must be its alone."""
        found = list(filter(osp.isfile, self._places(image)))
        if len(found) > 1:
            text = 'images with two label files: remove one of each'
            report.add('error', text, f'{image}: {" and ".join(found)}')
        if not found:
            return None
        twin = self._image_of.setdefault(found[0], image)
        if twin != image:
            text = 'images that share a label file: rename image and label'
            report.add('error', text, f'{twin} and {image}: {found[0]}')
        self._folders[osp.dirname(found[0])].add(osp.dirname(image))
        return found[0]

    def expected(self, image: str) -> str:
        """Where the label of an image should be."""
        return next(self._places(image))

    def _places(self, image: str) -> Iterator[str]:
        if self.labels is not None:
            name = osp.relpath(osp.splitext(image)[0], self.photos) + '.txt'
            yield from dict.fromkeys(
                osp.join(self.labels, text)
                for text in (name, osp.basename(name))
            )
            return
        folder, name = osp.split(osp.splitext(image)[0] + '.txt')
        parts = folder.split(os.sep)
        if 'images' in parts:  # the last one
            last = len(parts) - 1 - parts[::-1].index('images')
            parts[last] = 'labels'
            yield osp.join(os.sep.join(parts), name)
        yield osp.join(folder, name)

    def report_orphans(self, report: AuditReport) -> None:
        """Tell of label files whose image is missing."""
        for folder, image_folders in self._folders.items():
            stems = {'classes'}
            for place in image_folders:
                for name in os.listdir(place):
                    if name.lower().endswith(IMG_EXTENSIONS):
                        stems.add(osp.splitext(name)[0])
            for name in sorted(os.listdir(folder)):
                stem, ending = osp.splitext(name)
                if ending.lower() != '.txt':
                    continue
                text = None
                if ending != '.txt':
                    text = 'label files not named .txt: left out; rename them'
                elif stem not in stems:
                    text = 'label files whose image is missing: left out'
                if text is not None:
                    report.add('warning', text, osp.join(folder, name))


def _read_part(
    paths: list[str],
    texts: _Texts,
    plan: YoloPlan,
    report: AuditReport,
    train: bool,
) -> list[Labelled]:
    """Images of one part with their objects, in the order of ``paths``."""
    labelled, without = [], []
    for path, header in readable_headers(texts.photos, paths, report).items():
        text = texts.of(path, report)
        objects = []
        if text is None:
            without.append(path)
        else:
            objects = list(_read_text(text, header, plan, report))
        if objects and header.turn >= 5:
            what = (
                'images that their EXIF orientation turns: their labels are '
                'taken as of the turned image, as Ultralytics does'
            )
            report.add('warning', what, path)
        labelled.append(Labelled(path, header.upright, objects))
    if without and len(without) == len(labelled):
        place = texts.expected(without[0])
        text = f'no label file for any of {len(without)} images: the first '
        level = 'error' if train else 'warning'
        report.tell(level, f'{text}should be {place}')
    if 2 * len(without) > len(labelled):
        use = 'for pretraining only' if train else 'left out'
        text = (
            f'images without a label file: as most have none, {use}; an empty '
            'label file says that an image has no object'
        )
        lost = set(without)
        labelled = [one for one in labelled if one.path not in lost]
    else:
        text = 'images without a label file: taken as without objects'
    for path in without:
        report.add('repair', text, path)
    return labelled


def _read_text(
    path: str, header: Header, plan: YoloPlan, report: AuditReport
) -> Iterator[tuple[int, list[float], bool]]:
    """(class index, box in pixels, no crowd) of each line."""
    data = Path(path).read_bytes().decode('utf-8-sig', 'replace')
    seen = set()
    for number, line in enumerate(data.splitlines(), 1):
        tokens = tuple(line.split())
        if not tokens:
            continue
        values = _numbers(tokens, plan, report, f'{path}:{number}: {line}')
        if values is None:
            continue
        if tokens in seen:
            text = 'lines that are there twice: taken once'
            report.add('repair', text, f'{path}:{number}')
            continue
        seen.add(tokens)
        box = _box(values[1:], report, f'{path}:{number}')
        width, height = header.upright
        scale = (width, height, width, height)
        box = [v * s for v, s in zip(box, scale, strict=True)]
        yield int(values[0]), box, False


def _numbers(
    tokens: tuple[str, ...], plan: YoloPlan, report: AuditReport, where: str
) -> list[float] | None:
    """The numbers of a line; None, and an error, if they make no sense."""
    where = where[:200]
    try:
        values = [float(token) for token in tokens]
    except ValueError:
        report.add('error', 'lines that are not numbers', where)
        return None
    if plan.keypoints and len(values) == 5 + plan.keypoints:
        text = 'keypoints: only the box is taken'
        report.add('repair', text, where)
        values = values[:5]
    size = len(values)
    if size != 5 and (size < 7 or size % 2 == 0):
        text = f'lines of {size} numbers'
        text += ', a prediction with its score?' * (size == 6)
        text += ': a label is class cx cy width height, or class x1 y1 x2 y2 '
        report.add('error', text + 'x3 y3 ...', where)
    elif values[0] not in range(len(plan.classes)):
        text = (
            f'class ids out of range: {plan.source.name} names '
            f'{len(plan.classes)} classes, 0 to {len(plan.classes) - 1}'
        )
        report.add('error', text, where)
    elif not all(-FUZZ <= value <= 1 + FUZZ for value in values[1:]):
        text = (
            'lines with numbers outside 0 to 1: YOLO labels are shares of '
            'width and height, not pixels'
        )
        report.add('error', text, where)
    else:
        return values
    return None


def _box(values: list[float], report: AuditReport, where: str) -> list[float]:
    """(x, y, width, height) as shares; rounding out of the image is cut."""
    if len(values) == 4:
        x, y, width, height = values
        ends = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    else:
        text = 'polygons: the box around each is taken'
        report.add('repair', text, where)
        xs, ys = values[::2], values[1::2]
        ends = [min(xs), min(ys), max(xs), max(ys)]
    for i, end in enumerate(ends):
        near = min(max(end, 0.0), 1.0)
        if abs(near - end) <= FUZZ:
            ends[i] = near
    return [ends[0], ends[1], ends[2] - ends[0], ends[3] - ends[1]]
