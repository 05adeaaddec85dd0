"""Parts of a data set: audited, compared, brought to one list of classes."""

from __future__ import annotations

import itertools
import os.path as osp
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from mmfgl.utils.audit import AuditReport, Use, audit_content
from mmfgl.utils.audit.classes import plain_name
from mmfgl.utils.audit.ids import repeated
from mmfgl.utils.audit.objects import CROWD, count_objects
from mmfgl.utils.formats.base import Dataset, Split
from mmfgl.utils.formats.copies import Copies


def finish(
    contents: Mapping[str, tuple[dict, str, AuditReport]],
    photos: str | Path,
    layout: str,
    notes: list[str],
    held_out: Iterable[str] = (),
) -> Dataset:
    """Audit the parts, mend them and give them the same categories.

    Args:
        contents: COCO dict, image folder and findings of each part.
        photos: Folder of all photographs.
        layout: Name of the layout.
        notes: What is known already.
        held_out: Absolute paths of more photographs of ``val`` and ``test``.

    Raises:
        ValueError: The labels are not what they seem; a line each, with files.
    """
    splits, failures, held_out = {}, [], set(held_out)
    for name, (content, root, report) in contents.items():
        root = osp.abspath(root)
        if not report.findings('error'):
            _audit(content, root, report, train=name == 'train')
        failures.append(report.failure())
        found = report.findings('warning', 'repair')
        notes += [f'{report.path}: {finding}' for finding in found]
        if name != 'train' and not report.objects['used']:
            notes.append(f'{report.path}: {name} has no object: left out')
            held_out.update(Split(content, root).paths())
            continue
        splits[name] = Split(content, root)
    if any(failures):
        raise ValueError('\n'.join(filter(None, failures)))
    sources = {name: report.path for name, (*_, report) in contents.items()}
    for split in splits.values():
        held_out.difference_update(split.paths())
    _compare_images(splits, sources, notes)
    _share_categories([split.content for split in splits.values()], notes)
    _tell_like_names(splits['train'].content['categories'], notes)
    photos = osp.abspath(photos)
    return Dataset(splits, photos, layout, notes, sorted(held_out))


def _audit(content: dict, root: str, report: AuditReport, train: bool) -> None:
    """Mend a part in place; count the objects of its readable images."""
    # without labels: objects are counted below, when images are out
    use = Use(report.path, root, labels=False, train=False)
    audit_content(content, use, report)
    if report.findings('error'):
        return
    _drop_repeated(content, report)
    _drop_unreadable(content, root, report)
    report.objects.clear()
    if train and not content['annotations'] and report.findings('warning'):
        what = 'object' if content['images'] else 'image'
        report.tell(
            'error',
            f'no {what} is left to train on, for the reasons below: mend '
            'paths or files, fetch them (git lfs pull, if they are pointers '
            'of Git LFS), or label more',
        )
    else:
        names = [category['name'] for category in content['categories']]
        count_objects(content, names, report, train=train)
    if train and not report.objects['used']:
        for reason in report.findings('warning'):
            report.tell('error', str(reason))
    elif train and (crowds := report.objects[CROWD]):
        total = sum(report.objects.values())
        text = f'{crowds} of {total} objects are {CROWD}: not trained on'
        report.tell('warning', text)


def _drop_repeated(content: dict, report: AuditReport) -> None:
    """Take an object that is listed several times once."""
    twins = repeated(content)
    for ann in twins:
        text = 'objects listed again, same image, class and box: taken once'
        report.add('repair', text, ann)
    ids = {ann['id'] for ann in twins}
    anns = [ann for ann in content['annotations'] if ann['id'] not in ids]
    content['annotations'] = anns


def _drop_unreadable(content: dict, root: str, report: AuditReport) -> None:
    """Take out images without a readable file, and their objects."""
    kept, lost = [], set()
    for image in content['images']:
        path = osp.normpath(osp.join(root, image['file_name']))
        header = report.headers.get(path)
        if header is not None and header.width:
            kept.append(image)
        else:
            lost.add(image['id'])
    if not lost:
        return
    anns = [a for a in content['annotations'] if a['image_id'] not in lost]
    objects = len(content['annotations']) - len(anns)
    report.tell(
        'warning',
        f'{len(lost)} images without a readable file are left out, and their '
        f'{objects} objects',
    )
    content['images'], content['annotations'] = kept, anns


def _compare_images(
    splits: dict[str, Split], sources: dict[str, str], notes: list[str]
) -> None:
    """Tell of images in two parts; drop a part that is ``train`` again.

    A copy of a file is that image, too.
    """
    paths = {name: split.paths() for name, split in splits.items()}
    copies = {name: Copies(files) for name, files in paths.items()}
    for first, part in itertools.combinations(paths, 2):
        files = copies[first]
        both = [path for path in paths[part] if files.find(path) is not None]
        if part not in splits or not both:
            continue
        if first == 'train' and len(both) == len(paths[part]) == len(files):
            notes.append(
                f'{sources[part]}: {part} is the images of train, which '
                'tells nothing of others: left out'
            )
            del splits[part]
        elif first in splits:
            notes.append(
                f'{sources[part]}: {len(both)} images of {part} are in '
                f'{first} too, so results will be too good ({min(both)})'
            )


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

    Ids that do not ascend are numbered anew: CocoMetric would give the APs of
    ``classwise=True`` to the wrong classes. Objects of categories or images
    that their own part does not list are dropped, of which the audit has told.
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
    numbers = list(ids.values())
    whole = all(type(number) is int for number in numbers)
    if len(shared) > first or not whole or numbers != sorted(numbers):
        ids = {name: number for number, name in enumerate(shared, 1)}
    for content in contents:
        new = {c['id']: ids[c['name']] for c in content['categories']}
        images = {image['id'] for image in content['images']}
        content['annotations'] = [
            dict(ann, category_id=new[ann['category_id']])
            for ann in content['annotations']
            if ann['category_id'] in new and ann['image_id'] in images
        ]
        content['categories'] = [
            dict(category, id=ids[name]) for name, category in shared.items()
        ]
