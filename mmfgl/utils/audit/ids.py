"""Ids of images, categories and annotations: unique numbers, or an error."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Any

from mmfgl.utils.audit.report import AuditReport

MAX_ID = 2**53  # COCOeval keeps annotation ids in float64
_LABELS = dict(images='file_name', categories='name')


def as_number(value: Any) -> Any:
    """The whole number that a text or a float stands for, else ``value``."""
    if isinstance(value, str) and re.fullmatch(r'\s*-?[0-9]{1,30}\s*', value):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def mend_entries(
    content: dict, key: str, report: AuditReport
) -> dict[Hashable, int | str]:
    """Give images or categories ids of one type, in place.

    Numbers in text become numbers. Ids that mix text and numbers or do not
    fit 64 bits, which NumPy would not compare right in COCOeval, are numbered
    anew; ids that are all text stay. An entry that is there twice is taken
    once.

    Args:
        content: The annotation file.
        key: ``'images'`` or ``'categories'``.
        report: Takes repairs and errors.

    Returns:
        The id of each way to write it in an annotation.
    """
    entries = []
    for entry in content[key]:
        if _is_id(entry.get('id')):
            entries.append(entry)
        else:
            report.add('error', f'{key} without a usable id', entry)
    ids = {entry['id']: as_number(entry['id']) for entry in entries}
    if len(set(ids.values())) < len(ids):  # '1' and '01'
        ids = {old: old for old in ids}
    whole = all(type(i) is int and abs(i) < 2**63 for i in ids.values())
    if not (whole or all(isinstance(i, str) for i in ids.values())):
        ids = {old: number for number, old in enumerate(ids, 1)}
        text = f'{key} whose ids mix text and numbers or are too long'
        for entry in entries:
            report.add('repair', f'{text}: numbered from 1', entry)
        lookup = dict(ids)
    else:
        lookup = {str(new): new for new in ids.values()}
        lookup |= {new: new for new in ids.values()} | ids
    for entry in entries:
        new = ids[entry['id']]
        if whole and type(entry['id']) is not int:
            text = f'{key} whose id is a number in text: read as a number'
            report.add('repair', text, entry)
        entry['id'] = new
    content[key] = _without_twins(entries, key, report)
    return lookup


def _is_id(value: Any) -> bool:
    if isinstance(value, bool) or value == '':
        return False
    return isinstance(as_number(value), int | str)


def _without_twins(
    entries: list[dict], key: str, report: AuditReport
) -> list[dict]:
    """Each id once; the same id for different things is an error."""
    label, first = _LABELS[key], {}
    for entry in entries:
        twin = first.setdefault(entry['id'], entry)
        if twin is entry:
            continue
        if twin.get(label) == entry.get(label):
            report.add('repair', f'{key} listed twice: taken once', entry)
        else:
            names = f'{twin.get(label)!r} and {entry.get(label)!r}'
            text = (
                f'{key} that share an id with another: their objects cannot '
                'be told apart'
            )
            report.add('error', text, f'id {entry["id"]!r}: {names}')
    return list(first.values())


def mend_reference(
    ann: dict, key: str, lookup: dict, report: AuditReport
) -> None:
    """Write ``image_id`` or ``category_id`` as the entry's id is written."""
    value = ann.get(key)
    if type(value) is int and value in lookup:
        ann[key] = lookup[value]
        return
    if not _is_id(value):
        report.add('error', f'annotations without {key}', ann)
    elif value in lookup:
        if value != lookup[value]:
            text = f'annotations whose {key} is a number in text'
            report.add('repair', f'{text}: read as a number', ann)
        ann[key] = lookup[value]


def mend_annotation_ids(content: dict, report: AuditReport) -> None:
    """Give annotations unique ids from 1, in place.

    Nothing refers to them, so that new ones do no harm: for missing ones,
    text, duplicates, and 0, which COCOeval takes for 'no match'. An
    annotation that is there twice is taken once.
    """
    first: dict[int, dict] = {}
    bad, twins = [], set()
    for ann in content['annotations']:
        value = ann.get('id')
        number = as_number(value)
        if type(number) is not int or not 0 < number <= MAX_ID:
            what = 'without' if value is None else 'with an unusable'
            what = 'with 0 as' if number == 0 else what
            bad.append((ann, what))
        elif (twin := first.setdefault(number, ann)) is ann:
            if type(value) is not int:
                text = 'annotations whose id is a number in text'
                report.add('repair', f'{text}: read as a number', ann)
                ann['id'] = number
        elif twin == ann:
            twins.add(id(ann))
            report.add('repair', 'annotations listed twice: taken once', ann)
        else:
            bad.append((ann, "with another one's"))
    fresh = max(first, default=0)
    for ann, what in bad:
        report.add('repair', f'annotations {what} id: numbered anew', ann)
        ann['id'] = fresh = fresh + 1
    if twins:
        kept = [a for a in content['annotations'] if id(a) not in twins]
        content['annotations'] = kept


def repeated(content: dict) -> list[dict]:
    """Annotations of a box that their image has already, of their class."""
    seen, found = set(), []
    for ann in content['annotations']:
        box = tuple(round(side, 2) for side in ann['bbox'])
        key = ann['image_id'], ann['category_id'], ann['iscrowd'], box
        if key in seen:
            found.append(ann)
        seen.add(key)
    return found


def mend_category_names(content: dict, report: AuditReport) -> None:
    """Of categories of one name keep the one that has objects, in place.

    Exporters add a grouping category that may be called like a class.
    """
    used = Counter(
        ann['category_id']
        for ann in content['annotations']
        if isinstance(ann.get('category_id'), Hashable)
    )
    groups = defaultdict(list)
    for category in content['categories']:
        name = category.get('name')
        if isinstance(name, int | float):
            text = 'categories whose name is a number: read as text'
            report.add('repair', text, category)
            name = category['name'] = str(name)
        if isinstance(name, str) and name.strip():
            groups[name].append(category['id'])
        else:
            report.add('error', 'categories without a name', category)
    dropped = set()
    for name, ids in groups.items():
        in_use = [i for i in ids if used[i]]
        if len(in_use) > 1:
            text = (
                'names that several categories with objects have: rename or '
                'merge them'
            )
            report.add('error', text, f'{name!r}: ids {in_use}')
        elif len(ids) > 1:
            keep = in_use[0] if in_use else ids[-1]
            dropped.update(set(ids) - {keep})
            text = 'category names there twice: the one in use is taken'
            report.add('repair', text, f'{name!r}: id {keep!r} of {ids}')
    kept = [c for c in content['categories'] if c['id'] not in dropped]
    content['categories'] = kept
