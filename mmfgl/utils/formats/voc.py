"""Pascal VOC: an XML file an image."""

from __future__ import annotations

import os.path as osp
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from mmfgl.utils.audit import AuditReport
from mmfgl.utils.formats.base import Dataset, find_images, only_train
from mmfgl.utils.formats.content import (
    Labelled,
    readable_headers,
    to_content,
)
from mmfgl.utils.formats.finishing import finish
from mmfgl.utils.formats.voc_plan import VocPlan


class _Object(NamedTuple):
    name: str
    corners: list[float]  # xmin, ymin, xmax, ymax as written
    difficult: bool


class _Xml(NamedTuple):
    path: str
    filename: str
    size: tuple[int, int]  # (width, height) in pixels, 0 if not given
    objects: list[_Object]


def read_voc(photos: Path, plan: VocPlan) -> Dataset:
    """Read images and labels; see :func:`find_voc`.

    An image belongs to the XML of its name, whatever ``filename`` says.
    ``bndbox`` counts pixels from 1 with both ends inside the box, as the
    PASCAL VOC development kit defines; if a box of the data set begins below
    1, all of them are edges counted from 0. Objects marked difficult become
    crowd regions (``iscrowd=1``): not trained on, and neither missed nor
    false when found, as in VOC's own evaluation. Classes are in alphabetical
    order. An image without XML is not labelled: it serves for pretraining.

    Raises:
        ValueError: A label is wrong; names its file and object.
    """
    notes = list(plan.notes)
    parts = only_train(plan.parts, plan.folder, notes)
    reports = {part: AuditReport(f'{plan.folder} ({part})') for part in parts}
    images = _Images(photos, plan.folder)
    read: dict[str, list[tuple[str, _Xml]]] = {}
    for part, names in parts.items():
        report = reports[part]
        xmls = [_parse(str(plan.folder / name), report) for name in names]
        found = [(images.of(xml, report), xml) for xml in xmls if xml]
        read[part] = [(image, xml) for image, xml in found if image]
    xmls = [xml for pairs in read.values() for _, xml in pairs]
    objects = [thing for xml in xmls for thing in xml.objects]
    first = min((min(o.corners[:2]) for o in objects), default=1)
    notes.append(
        'boxes are read as pixels counted from 1, both ends inside (x = xmin '
        '- 1, width = xmax - xmin + 1), as PASCAL VOC defines'
        if first >= 1
        else 'boxes are read as edges counted from 0 (x = xmin, width = xmax '
        '- xmin), since one begins below 1'
    )
    classes = sorted({thing.name for thing in objects})
    labelled = {
        part: _labelled(photos, pairs, classes, first >= 1, reports[part])
        for part, pairs in read.items()
    }
    contents = {
        part: (*content, reports[part])
        for part, content in to_content(labelled, classes).items()
    }
    return finish(contents, photos, f'Pascal VOC: {plan.folder}', notes)


def _labelled(
    photos: Path,
    pairs: list[tuple[str, _Xml]],
    classes: list[str],
    from_one: bool,
    report: AuditReport,
) -> list[Labelled]:
    """Images of one part with their objects."""
    shift = int(from_one)
    paths = [image for image, _ in pairs]
    headers = readable_headers(photos, paths, report)
    labelled = []
    for image, xml in sorted(pairs):
        if image not in headers:
            continue
        objects = []
        for name, (x1, y1, x2, y2), difficult in xml.objects:
            x1, y1 = x1 - shift, y1 - shift
            box = [x1, y1, x2 - x1, y2 - y1]
            objects.append((classes.index(name), box, difficult))
            if difficult:
                text = 'objects marked difficult: crowd regions (iscrowd=1)'
                report.add('repair', text, xml.path)
        labelled.append(Labelled(image, xml.size, objects))
    return labelled


class _Images:
    """The images that XML files belong to.

    Args:
        photos: Folder of the photographs, with its sub-folders.
        folder: Folder of the XML files.
    """

    def __init__(self, photos: Path, folder: Path) -> None:
        self._taken: dict[str, str] = {}
        self._stems, self._files = defaultdict(list), defaultdict(list)
        for path in (osp.join(photos, n) for n in find_images(photos)):
            name = osp.basename(path)
            self._stems[osp.splitext(name)[0]].append(path)
            self._files[name].append(path)
        self._folder = folder

    def of(self, xml: _Xml, report: AuditReport) -> str | None:
        """The image of an XML, which must be its alone."""
        stem = osp.splitext(osp.basename(xml.path))[0]
        found = self._stems[stem]
        if not found and len(self._files[xml.filename]) == 1:
            text = 'XML files of another name than their image: found by '
            report.add('repair', f'{text}filename', xml.path)
            found = self._files[xml.filename]
        elif found and osp.splitext(xml.filename)[0] != stem:
            text = (
                'XML files whose filename is not their own name: taken for '
                'the image of their own name'
            )
            if xml.filename:
                report.add('repair', text, f'{xml.path}: {xml.filename}')
        if len(found) > 1:
            own = osp.dirname(xml.path)
            found = [p for p in found if osp.dirname(p) == own] or found
        if len(found) > 1:
            inner = osp.dirname(osp.relpath(xml.path, self._folder))
            end = (f'{inner}/' if inner else '') + stem
            same = [p for p in found if osp.splitext(p)[0].endswith(end)]
            found = same if inner and same else found
        if len(found) > 1:
            text = 'XML files that several images have the name of: rename'
            report.add('error', text, f'{xml.path}: {", ".join(found)}')
            return None
        if not found:
            text = 'label files whose image is missing: left out'
            report.add('warning', text, xml.path)
            return None
        twin = self._taken.setdefault(found[0], xml.path)
        if twin != xml.path:
            text = 'images with two label files: remove one of each'
            report.add('error', text, f'{found[0]}: {twin} and {xml.path}')
        return found[0]


def _parse(path: str, report: AuditReport) -> _Xml | None:
    """Read an XML; None, and an error, if it is broken."""
    try:
        root = _root(Path(path).read_bytes())
    except (ET.ParseError, ValueError, LookupError) as error:
        text = 'files that are no XML, or not whole'
        report.add('error', text, f'{path}: {error}')
        return None
    objects = []
    for number, node in enumerate(root.findall('object'), 1):
        thing = _object(node, f'{path}, object {number}', report)
        if thing is not None:
            objects.append(thing)
    size = tuple(
        int(_number(root.findtext(f'size/{key}')) or 0)
        for key in ('width', 'height')
    )
    # labelImg leaves a path, of Windows too
    filename = (root.findtext('filename') or '').strip().replace('\\', '/')
    return _Xml(path, osp.basename(filename), size, objects)


def _root(data: bytes) -> ET.Element:
    """The outermost element, whatever encoding the file declares.

    Raises:
        ET.ParseError: It is no XML.
        LookupError: Python does not know the encoding.
        UnicodeDecodeError: It is in another one.
    """
    try:
        return ET.fromstring(data)
    except (ValueError, LookupError):  # of several bytes a letter, as gb2312
        declared = re.search(rb'encoding=["\']([\w.-]+)', data)
        return ET.fromstring(data.decode(declared[1].decode()))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or '')
    except ValueError:
        return None
    return number if abs(number) < 1e9 else None


def _object(
    node: ET.Element, where: str, report: AuditReport
) -> _Object | None:
    name = (node.findtext('name') or '').strip()
    keys = ('xmin', 'ymin', 'xmax', 'ymax')
    corners = [_number(node.findtext(f'bndbox/{key}')) for key in keys]
    if not name:
        report.add('error', 'objects without a name', where)
    elif None in corners:
        text = 'objects without bndbox, or without four numbers in it'
        report.add('error', text, where)
    else:
        for low, high in ((0, 2), (1, 3)):
            if corners[low] > corners[high]:
                text = 'boxes with minimum and maximum swapped: swapped back'
                report.add('repair', text, where)
                corners[low], corners[high] = corners[high], corners[low]
        difficult = (node.findtext('difficult') or '').strip() == '1'
        return _Object(name, corners, difficult)
    return None
