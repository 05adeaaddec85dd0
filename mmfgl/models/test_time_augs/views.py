"""Views of an image: their geometry, their order, their batches.

Shape shorthand: B images, V views of each image, R boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

import mmcv
from mmdet.structures.bbox import bbox_flip, scale_boxes
from torch import Tensor

_META_KEYS = ('ori_shape', 'img_shape', 'scale_factor', 'flip')


@dataclass(frozen=True)
class View:
    """How a view was made of its image: resize, then flip.

    Args:
        scale: (x, y) factors from original pixels to the view's pixels.
        size: (height, width) of the image in the view, without padding.
        flip: ``'horizontal'``, ``'vertical'``, ``'diagonal'`` or ``None``.
    """

    scale: tuple[float, float]
    size: tuple[int, int]
    flip: str | None = None

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> 'View':
        """Read a view off the meta information of a data sample.

        Padding inside the pipeline must come after the flip, as it does in
        mmdet's configs; it goes right and below, so it moves no box.

        Args:
            meta: Meta information with ``ori_shape``, ``img_shape``,
                ``scale_factor``, ``flip`` and ``flip_direction``.

        Returns:
            The view.

        Raises:
            ValueError: If a key is missing or the view was cropped.
        """
        missing = [key for key in _META_KEYS if meta.get(key) is None]
        if meta.get('flip') and meta.get('flip_direction') is None:
            missing.append('flip_direction')
        if missing:
            raise ValueError(
                f'the views lack the meta keys {missing}: add them to '
                '`meta_keys` of PackDetInputs in tta_pipeline. A pipeline '
                "that never flips needs dict(type='RandomFlip', prob=0.) for "
                'its `flip` key.'
            )
        height, width = meta['ori_shape'][:2]
        scale = tuple(float(s) for s in meta['scale_factor'][:2])
        size = (round(height * scale[1]), round(width * scale[0]))
        shown = meta['img_shape'][:2]
        if any(s > limit + 1 for s, limit in zip(size, shown, strict=True)):
            raise ValueError(
                f'a view of {size} pixels (height, width) was cut down to '
                f'{tuple(shown)}: views of RoITTAModel may be resized, '
                'flipped and padded, not cropped'
            )
        size = tuple(map(min, size, shown))
        return cls(
            scale, size, meta['flip_direction'] if meta['flip'] else None
        )

    @property
    def upright(self) -> 'View':
        """The same view before the flip."""
        return replace(self, flip=None)

    @property
    def order(self) -> tuple:
        """Sorting key: by area, then by width, then by flip."""
        return (self.scale[0] * self.scale[1], self.scale[0], self.flip or '')

    def to(self, boxes: Tensor, other: 'View') -> Tensor:
        """Map boxes of this view into another view of the same image.

        Args:
            boxes: (R, 4 k) boxes in pixels of this view.
            other: The target view.

        Returns:
            (R, 4 k) boxes in pixels of ``other``, at least fp32; the very
            tensor that came in if both views are the same.
        """
        if self == other:
            return boxes
        boxes = boxes.float()
        if self.flip:
            boxes = bbox_flip(boxes, self.size, self.flip)
        if self.scale != other.scale:
            ratio = [o / s for o, s in zip(other.scale, self.scale)]
            boxes = scale_boxes(boxes, ratio)
        if other.flip:
            boxes = bbox_flip(boxes, other.size, other.flip)
        return boxes


@dataclass
class ViewBatch:
    """One view of each image of a batch.

    Attributes:
        inputs: B image tensors, before the data preprocessor.
        samples: B data samples.
        views: B views.
        feats: Pyramid levels, each (B, C, H_l, W_l), once extracted.
    """

    inputs: list[Tensor]
    samples: list
    views: list[View]
    feats: tuple[Tensor, ...] = ()

    @property
    def metas(self) -> list[dict[str, Any]]:
        """Meta information of the B samples."""
        return [sample.metainfo for sample in self.samples]


def arrange_views(
    data: dict[str, Any], reference: str | Sequence[int]
) -> list[ViewBatch]:
    """Batch the views of a loaded batch, reference first.

    The views of every image are put into an order that depends on their
    geometry alone, so neither the order of a pipeline nor the other images of
    a batch change a result.

    Args:
        data: ``inputs`` and ``data_samples``, each a list over V views of
            lists over B images, as ``TestTimeAug`` and ``pseudo_collate``
            leave them.
        reference: See :class:`RoITTAOptions`.

    Returns:
        V view batches.

    Raises:
        ValueError: If the data was not made by ``TestTimeAug``.
    """
    inputs, samples = _read(data)
    orders, views = [], []
    for image in range(len(inputs[0])):
        metas = [of_view[image].metainfo for of_view in samples]
        seen = [View.from_meta(meta) for meta in metas]
        first = _pick_reference(seen, reference, metas[0]['ori_shape'])
        rest = sorted(set(range(len(seen))) - {first}, key=_by_order(seen))
        orders.append([first, *rest])
        views.append(seen)
    return [
        ViewBatch(
            inputs=[inputs[o[rank]][b] for b, o in enumerate(orders)],
            samples=[samples[o[rank]][b] for b, o in enumerate(orders)],
            views=[views[b][o[rank]] for b, o in enumerate(orders)],
        )
        for rank in range(len(inputs))
    ]


def scale_ranks(views: Sequence[View]) -> list[int]:
    """Rank of each view's scale among the views of an image, smallest 0.

    Ranks are counted within each flip, so they hold even where two scales
    happen to give an image the same size.

    Args:
        views: The V views of one image.

    Returns:
        V ranks.

    Raises:
        ValueError: If the flips do not come in equally many scales.
    """
    groups: dict[str | None, list[int]] = {}
    for index in sorted(range(len(views)), key=_by_order(views)):
        groups.setdefault(views[index].flip, []).append(index)
    if len({len(group) for group in groups.values()}) > 1:
        raise ValueError(
            'scale_weights and size_ranges per scale need the same number of '
            'scales for every flip; got '
            f'{ {flip: len(group) for flip, group in groups.items()} }'
        )
    ranks = [0] * len(views)
    for group in groups.values():
        for rank, index in enumerate(group):
            ranks[index] = rank
    return ranks


def _by_order(views: Sequence[View]):
    return lambda index: views[index].order


def _pick_reference(
    views: Sequence[View],
    reference: str | Sequence[int],
    ori_shape: Sequence[int],
) -> int:
    """Index of the reference view, see :class:`RoITTAOptions`."""
    unflipped = [i for i, view in enumerate(views) if view.flip is None]
    ranked = sorted(unflipped or range(len(views)), key=_by_order(views))
    if isinstance(reference, str):
        place = dict(smallest=0, median=len(ranked) // 2, largest=-1)
        return ranked[place[reference]]
    width, height = mmcv.rescale_size(
        (ori_shape[1], ori_shape[0]), tuple(reference)
    )

    def distance(index: int) -> float:
        size = views[index].size
        return abs(log(size[0] * size[1] / (width * height)))

    return min(ranked, key=distance)


def _read(data: dict[str, Any]) -> tuple[list, list]:
    """Check a loaded batch; V lists of B inputs, V lists of B samples."""
    if not isinstance(data, dict) or not {'inputs', 'data_samples'} <= set(
        data
    ):
        raise ValueError(
            'RoITTAModel needs a batch dict with `inputs` and `data_samples`: '
            "end tta_pipeline with TestTimeAug(..., 'PackDetInputs')"
        )
    inputs, samples = data['inputs'], data['data_samples']
    if not isinstance(samples[0], (list, tuple)):
        raise ValueError(
            'the batch holds no views: set the pipeline of the test data to '
            'tta_pipeline, which wraps its transforms into TestTimeAug '
            '(`tools/test.py --tta` does)'
        )
    return [list(view) for view in inputs], [list(view) for view in samples]
