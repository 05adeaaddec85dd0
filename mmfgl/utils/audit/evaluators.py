"""Evaluators against the data sets that they judge."""

from __future__ import annotations

import os.path as osp
from collections import Counter
from collections.abc import Sequence

from mmengine.config import Config, ConfigDict

from mmfgl.utils.audit.coco import Use
from mmfgl.utils.audit.uses import many_evaluators


def compare_evaluator(
    cfg: Config,
    loader: str,
    node: ConfigDict,
    judge: tuple[Use, dict],
    parts: dict[Use, dict],
) -> str:
    """Make sure that an evaluator knows the images it will get, and no other.

    Args:
        cfg: The config.
        loader: Name of the data loader.
        node: Config of the metric.
        judge: Its annotation file and content.
        parts: Those of the loader's data sets.

    Returns:
        What is wrong; empty if nothing is.
    """
    use, content = judge
    name = loader.replace('dataloader', 'evaluator')
    if node.get('classwise') and not node.get('format_only'):
        ids = [
            c['id'] for c in content['categories'] if c['name'] in use.classes
        ]
        if ids != sorted(ids):
            return (
                f'{use.path}: the category ids {ids[:10]} do not ascend; '
                f'CocoMetric would give the APs of classwise=True in {name} '
                'to the wrong classes: number the categories in their order'
            )
    candidates = [[part] for part in parts.values()]
    if not many_evaluators(cfg, loader):
        candidates = [list(parts.values())]
    paths = [part.path for part in parts]
    if len(candidates[0]) == 1 and use in parts:
        return ''
    found = [_difference(content, each, use.classes) for each in candidates]
    if '' in found:
        return ''
    return (
        f'{name} reads {use.path}, {loader} reads {", ".join(paths)}, and '
        f'they differ: {found[0]}. Give both the same annotation file.'
    )


def _difference(
    content: dict, parts: Sequence[dict], classes: Sequence[str]
) -> str:
    """First difference of an evaluator's file and some data sets' files."""
    ours = {i['id']: i['file_name'] for i in content['images']}
    theirs: dict = {}
    for part in parts:
        for image in part['images']:
            name = theirs.setdefault(image['id'], image['file_name'])
            if name != image['file_name']:
                return f'several data sets have an image {image["id"]!r}'
    if apart := ours.keys() ^ theirs.keys():
        example = sorted(apart, key=str)[0]
        return (
            f'{len(apart)} images are in the one and not in the other, such '
            f'as {(ours | theirs)[example]!r}, id {example!r}'
        )
    for image, name in ours.items():
        if osp.basename(name) != osp.basename(theirs[image]):
            return f'image {image!r} is {name!r} and {theirs[image]!r}'
    ids = _class_ids(content, classes)
    for part in parts:
        if _class_ids(part, classes) != ids:
            return f'ids of classes are {ids} and {_class_ids(part, classes)}'
    boxes = _boxes(content, ids)
    others = sum((_boxes(part, ids) for part in parts), Counter())
    # a list of images without boxes is no contradiction
    if others and boxes != others:
        image = next(iter((boxes - others) or (others - boxes)))[0]
        return f'{ours[image]!r} has other boxes'
    return ''


def _class_ids(content: dict, classes: Sequence[str]) -> dict:
    categories = content['categories']
    return {c['name']: c['id'] for c in categories if c['name'] in classes}


def _boxes(content: dict, ids: dict) -> Counter:
    """(image id, category id, rounded x, y, w, h), as a multiset."""
    wanted, images = set(ids.values()), {i['id'] for i in content['images']}
    return Counter(
        (ann['image_id'], ann['category_id'], *map(round, ann['bbox']))
        for ann in content['annotations']
        if ann['category_id'] in wanted and ann['image_id'] in images
    )
