"""Image entries of an annotation file against the image files."""

from __future__ import annotations

import os.path as osp
from collections import Counter
from collections.abc import Iterable

from mmfgl.utils.audit.headers import Header, read_headers
from mmfgl.utils.audit.ids import as_number
from mmfgl.utils.audit.report import AuditReport

ROUNDING = 2  # pixels: harmless, from rounding when an image was scaled


def mend_images(
    content: dict, folder: str | None, report: AuditReport, turned: bool = True
) -> None:
    """Compare sizes and names of images with their files, in place.

    A size that is missing is filled in. Of an image without size and without
    readable file nothing can be known: it is left out.

    Args:
        content: The annotation file.
        folder: Folder of the images; ``None`` if they are not on this disk.
        report: Takes repairs, warnings and errors.
        turned: Whether the loader turns images by their EXIF.
    """
    named = [image for image in content['images'] if _named(image, report)]
    if folder is None:
        headers = [None] * len(named)
    else:
        for image in named:
            _mend_backslashes(image, folder, report)
        names = [image['file_name'] for image in named]
        headers = read_headers(folder, names)
        _missing(folder, names, headers, report)
        for name, header in zip(names, headers, strict=True):
            if header is not None:
                report.headers[osp.normpath(osp.join(folder, name))] = header
    kept = []
    for image, header in zip(named, headers, strict=True):
        if header is not None and not header.width:
            report.add('warning', 'files that are no readable image', image)
            header = None
        if _mend_size(image, header, report, turned):
            kept.append(image)
    content['images'] = kept
    report.images = {image['id']: image for image in kept}
    counts = Counter(osp.normpath(image['file_name']) for image in kept)
    for name, number in counts.items():
        if number > 1:
            text = (
                'files that are listed as several images: each has but a part '
                'of the objects'
            )
            report.add('warning', text, f'{name!r}: {number} times')


def _named(image: dict, report: AuditReport) -> bool:
    name = image.get('file_name')
    if not isinstance(name, str) or not name.strip():
        report.add('error', 'images without file_name', image)
    elif '://' in name:
        text = (
            'images named by URL: file_name is a path below the image folder '
            'data_prefix.img'
        )
        report.add('error', text, image)
    else:
        return True
    return False


def _mend_backslashes(image: dict, folder: str, report: AuditReport) -> None:
    """Paths written on Windows."""
    name = image['file_name']
    if '\\' in name and not osp.exists(osp.join(folder, name)):
        report.add('repair', 'paths with backslashes: read as slashes', image)
        image['file_name'] = name.replace('\\', '/')


def _missing(
    folder: str,
    names: list[str],
    headers: list[Header | None],
    report: AuditReport,
) -> None:
    """Images without file: a warning, or an error if there is no other."""
    missing = [
        name
        for name, header in zip(names, headers, strict=True)
        if header is None
    ]
    if not missing:
        return
    if len(missing) < len(names):
        for name in missing:
            report.add('warning', 'images without a file', repr(name))
        return
    # the commonest cause: a folder is named twice, or not at all
    parent, own = osp.split(folder.rstrip('/'))
    places = (parent, osp.dirname(parent), osp.join(folder, own))
    hint = 'set data_root and data_prefix.img'
    if _any_file(folder, map(osp.basename, missing)):
        hint = 'there they are without the folder in their file_name'
    for place in places:
        if _any_file(place, missing):
            hint = f'set data_prefix.img to {place or "."}, where they are'
    if not osp.isdir(folder):
        hint = f'there is no such folder, {hint}'
    text = f'images without a file in {folder}, all there are: {hint}'
    for name in missing:
        report.add('error', text, repr(name))


def _any_file(folder: str, names: Iterable[str]) -> bool:
    return any(osp.isfile(osp.join(folder, name)) for name in names)


def _mend_size(
    image: dict, header: Header | None, report: AuditReport, turned: bool
) -> bool:
    """Fill in or compare width and height; False if neither is possible."""
    size = tuple(_side(image.get(key)) for key in ('width', 'height'))
    given = (image.get('width'), image.get('height'))
    if header is None:
        if 0 in size:
            text = 'images with neither size nor readable file: left out'
            report.add('repair', text, image)
            return False
        if size != given:
            text = 'images whose size is text or decimals: read as numbers'
            report.add('repair', text, image)
        image['width'], image['height'] = size
        return True
    stored = (header.width, header.height)
    real = header.upright if turned else stored
    if 0 in size:
        text = 'images without width and height: taken from the file'
        report.add('repair', text, image)
    elif size != real and size == stored:
        text = (
            'files that their EXIF orientation turns when they are read, '
            'while width and height, and so the boxes, are of the image '
            'before: turn the pixels for good, or take the EXIF out'
        )
        report.add('error', text, image)
    elif max(abs(a - b) for a, b in zip(size, real, strict=True)) > ROUNDING:
        report.add(
            'error',
            'images of another size than the labels say: scale the boxes (if '
            'they are right, delete width and height from the file)',
            f'{image["file_name"]!r} is {real[0]} x {real[1]}, the labels say '
            f'{size[0]} x {size[1]}',
        )
    elif size != real:
        text = 'images with a size off by a pixel or two: taken from the file'
        report.add('repair', text, image)
    elif size != given or type(given[0]) is not int:
        text = 'images whose size is text or decimals: read as numbers'
        report.add('repair', text, image)
    _note_turn(image, header, report, turned, 0 not in size)
    image['width'], image['height'] = real
    return True


def _side(value: object) -> int:
    """Pixels; 0 if they are not given."""
    number = as_number(value)
    if isinstance(number, float) and 1 <= number < 2**31:
        number = round(number)
    known = type(number) is int and number > 0
    return number if known else 0


def _note_turn(
    image: dict, header: Header, report: AuditReport, turned: bool, sized: bool
) -> None:
    if header.turn == 1 or not turned:
        return
    if sized and header.turn >= 5 and header.width != header.height:
        text = 'files turned by EXIF, as width and height in the JSON are'
        report.add('note', text, image)
    else:
        text = (
            'files that their EXIF orientation mirrors or turns when they '
            'are read, which width and height do not show: look whether the '
            'boxes are of the image after it'
        )
        report.add('warning', text, image)
