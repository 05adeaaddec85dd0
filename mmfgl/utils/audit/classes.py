"""Classes of detector, config and annotation file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmengine.config import Config, ConfigDict

from mmfgl.utils.audit.report import AuditReport
from mmfgl.utils.checked_runner import leaf_datasets

EXAMPLE = 'fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py'


def check_num_classes(cfg: Config, loaders: Sequence[str]) -> None:
    """Compare the number of classes of the detector and its data sets.

    Data sets that are no ``CocoDataset``, and models without box head, pass
    unchecked.

    Raises:
        ValueError: The numbers differ, or the classes are no list of names.
    """
    numbers = list(_num_classes(cfg.model))
    for loader in loaders:
        if cfg.get(loader) is None or not numbers:
            continue
        for dataset in leaf_datasets(cfg[loader].dataset):
            classes = coco_classes(dataset, loader)
            for number in numbers if classes is not None else ():
                if number != len(classes):
                    raise ValueError(
                        f'The detector has num_classes={number}, but the '
                        f'dataset of {loader} has {len(classes)} classes: '
                        f'{some(classes)}. Set num_classes of its heads or '
                        'metainfo=dict(classes=(...)) of the dataset.'
                    )


def _num_classes(model: ConfigDict) -> Iterator[int]:
    """Class counts of box and mask heads (several in a cascade)."""
    model = model.get('detector', model)
    model = model.get('roi_head', model)
    for name in ('bbox_head', 'mask_head'):
        heads = model.get(name) or []
        for head in heads if isinstance(heads, list | tuple) else [heads]:
            if 'num_classes' in head and not head.get('class_agnostic'):
                yield head['num_classes']


def coco_classes(dataset: ConfigDict, loader: str) -> list[str] | None:
    """Class names a ``CocoDataset`` will use; None for other types.

    Raises:
        ValueError: The classes are a text, or a name is there twice.
    """
    from mmdet.datasets import CocoDataset

    kind = dataset_type(dataset)
    if kind is None or not issubclass(kind, CocoDataset):
        return None
    classes = kind._load_metainfo(dataset.get('metainfo'))['classes']
    if isinstance(classes, str):
        raise ValueError(
            f'metainfo.classes of {loader} is the text {classes!r}: a single '
            f'class needs a comma, classes=({classes!r},)'
        )
    if twice := {name for name in classes if list(classes).count(name) > 1}:
        raise ValueError(
            f'metainfo.classes of {loader} names {some(sorted(twice))} twice.'
        )
    return list(classes)


def dataset_type(dataset: ConfigDict) -> type | None:
    """Class of a data set's config; ``None`` if MMDetection has none."""
    from mmdet.registry import DATASETS

    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    return kind if isinstance(kind, type) else None


def compare_names(
    categories: list[dict], classes: Sequence[str], report: AuditReport
) -> None:
    """Look for the config's class names among the file's categories.

    ``CocoDataset`` drops objects of names that it does not know, and numbers
    classes in the order of the file.
    """
    names = [category['name'] for category in categories]
    missing = [name for name in classes if name not in names]
    if missing:
        text = (
            f'classes of the config that are not among the {len(names)} '
            f'categories of the file: missing: {some(missing)}; the file has: '
            f'{some(names)}; set metainfo=dict(classes=(...)) of the dataset '
            'to the names in the file'
        )
        for name in missing:
            same = [n for n in names if plain_name(n) == plain_name(name)]
            twin = ''.join(f'{name!r} is {n!r} in the file' for n in same[:1])
            report.add('error', text, twin)
        return
    order = [name for name in names if name in classes]
    if order != list(classes):
        text = (
            'the classes of the config are in another order than in the file; '
            'MMDetection numbers them as the file does, so every result '
            f'would carry a wrong name. Use this order: {some(order, 100)}'
        )
        report.tell('error', text)


def plain_name(name: object) -> str:
    """A name without type, case, blanks and quotes."""
    return str(name).strip(' \t\r\n\'"').casefold().replace('_', ' ')


def some(names: Sequence[object], limit: int = 8) -> str:
    """The first names as Python writes them, so that blanks show."""
    more = len(names) - limit
    text = ', '.join(map(repr, names[:limit]))
    return f'{text}, and {more} more' if more > 0 else text or '(none)'


def check_masks(
    content: dict, classes: Sequence[str] | None, report: AuditReport
) -> None:
    """Make sure that every object has a mask, for those who read masks."""
    wanted = {
        category['id']
        for category in content['categories']
        if classes is None or category['name'] in classes
    }
    for ann in content['annotations']:
        read = ann['category_id'] in wanted and not ann.get('ignore')
        if read and not ann.get('segmentation'):
            text = (
                'annotations without segmentation, which the mask head of '
                'this config needs: add it, or use a config without masks, '
                f'such as configs/fgl_faster_rcnn/{EXAMPLE}'
            )
            report.add('error', text, ann)
