"""Views of an image: their geometry, their order, their batches.

Shape shorthand: B images, V views of each image, R boxes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.structures.bbox import bbox_flip, scale_boxes
from torch import Tensor

_META_KEYS = ('ori_shape', 'img_shape', 'scale_factor', 'flip')


@dataclass(frozen=True)
class View:
    """How a view was made of its image: cut out, resized, flipped.

    Attributes:
        scale: (x, y) factors from original pixels to the view's pixels.
        size: (height, width) of what the view shows, without padding.
        flip: ``'horizontal'``, ``'vertical'``, ``'diagonal'`` or ``None``.
        offset: (x, y) of the view's upper left corner, original pixels.
        cut: Whether its left, upper, right and lower edge, before the flip,
            lie inside the image.
    """

    scale: tuple[float, float]
    size: tuple[int, int]
    flip: str | None = None
    offset: tuple[int, int] = (0, 0)
    cut: tuple[bool, bool, bool, bool] = (False,) * 4

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> 'View':
        """Read a view off the meta information of a data sample.

        Padding inside the pipeline must come after the flip, as it does in
        mmdet's configs; it goes right and below, so it moves no box.

        Args:
            meta: Meta information with ``ori_shape``, ``img_shape``,
                ``scale_factor``, ``flip`` and ``flip_direction``; of
                :class:`ImageSlice` also ``slice_window``.

        Raises:
            ValueError: If a key is missing or the view was cropped by
                another transform than ``ImageSlice``.
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
        x1, y1, x2, y2 = meta.get('slice_window') or (0, 0, width, height)
        scale = tuple(float(s) for s in meta['scale_factor'][:2])
        size = (round((y2 - y1) * scale[1]), round((x2 - x1) * scale[0]))
        shown = meta['img_shape'][:2]
        if any(s > limit + 1 for s, limit in zip(size, shown, strict=True)):
            raise ValueError(
                f'a view of {size} pixels (height, width) was cut down to '
                f'{tuple(shown)}: views of RoITTAModel may be resized, '
                'flipped and padded, and cropped by mmfgl.ImageSlice alone, '
                'with `slice_window` among the `meta_keys` of PackDetInputs'
            )
        return cls(
            scale=scale,
            size=tuple(map(min, size, shown)),
            flip=meta['flip_direction'] if meta['flip'] else None,
            offset=(x1, y1),
            cut=(x1 > 0, y1 > 0, x2 < width, y2 < height),
        )

    @property
    def is_slice(self) -> bool:
        """Whether the view shows a part of the image alone."""
        return any(self.cut)

    @property
    def zoom(self) -> float:
        """View pixels a side of one original pixel."""
        return (self.scale[0] * self.scale[1]) ** 0.5

    @property
    def order(self) -> tuple:
        """Sorting key: by zoom, then by width, then by flip and slice."""
        return (self.zoom, self.scale[0], self.flip or '', self.offset)

    def to(self, boxes: Tensor, other: 'View') -> Tensor:
        """Map (R, 4 k) boxes of this view into another view of the image.

        Returns:
            (R, 4 k) boxes in pixels of ``other``, at least fp32, beyond its
            edges where it does not show them; the very tensor that came in
            if both views are the same.
        """
        if self == other:
            return boxes
        boxes = boxes.float()
        if self.flip:
            boxes = bbox_flip(boxes, self.size, self.flip)
        if self.scale != other.scale:
            ratio = [o / s for o, s in zip(other.scale, self.scale)]
            boxes = scale_boxes(boxes, ratio)
        if self.offset != other.offset:
            shift = boxes.new_tensor(self.offset) - boxes.new_tensor(
                other.offset
            )
            shift = shift * boxes.new_tensor(other.scale)
            boxes = boxes + shift.repeat(boxes.shape[-1] // 2)
        if other.flip:
            boxes = bbox_flip(boxes, other.size, other.flip)
        return boxes

    def shows_whole(self, boxes: Tensor) -> Tensor:
        """(R,) bool: whether (R, 4) boxes keep a pixel off the cut edges."""
        if self.flip:
            boxes = bbox_flip(boxes, self.size, self.flip)
        height, width = self.size
        far = boxes.new_tensor([width, height])
        margins = torch.cat([boxes[:, :2], far - boxes[:, 2:]], dim=1)
        cut = torch.tensor(self.cut, device=boxes.device)
        return ((margins >= 1) | ~cut).all(1)


@dataclass(frozen=True)
class ViewBatch:
    """One view of each image of a batch, and its features.

    Attributes:
        views: B views.
        samples: B data samples.
        feats: Pyramid levels k, each (B, C, H_k, W_k).
        level_shift: Which levels RoIs are read from, see
            :func:`mmfgl.models.layers.roi_levels`.
    """

    views: list[View]
    samples: list
    feats: tuple[Tensor, ...]
    level_shift: int | str = 0

    @property
    def metas(self) -> list[dict[str, Any]]:
        """Meta information of the B samples."""
        return [sample.metainfo for sample in self.samples]


def arrange_views(
    data: dict[str, Any],
) -> list[tuple[list[View], dict[str, list]]]:
    """Batch the views of a loaded batch, reference first.

    The reference is the median scale (the larger of the middle two) of the
    unflipped views of the whole image. The views of every image are put into
    an order that depends on their geometry alone, so neither the order of a
    pipeline nor the other images of a batch change a result.

    Args:
        data: ``inputs`` and ``data_samples``, each a list over V views of
            lists over B images, as ``TestTimeAug`` and ``pseudo_collate``
            leave them.

    Returns:
        For each of V ranks the B views and their part of ``data``.

    Raises:
        ValueError: If the data was not made by ``TestTimeAug`` or no view can
            be the reference.
    """
    inputs, samples = _read(data)
    views = [
        [View.from_meta(sample.metainfo) for sample in of_image]
        for of_image in zip(*samples, strict=True)
    ]
    orders = [_order(seen) for seen in views]
    arranged = []
    for ranked in zip(*orders, strict=True):
        part = dict(
            inputs=[inputs[v][b] for b, v in enumerate(ranked)],
            data_samples=[samples[v][b] for b, v in enumerate(ranked)],
        )
        arranged.append(([views[b][v] for b, v in enumerate(ranked)], part))
    return arranged


def _order(views: Sequence[View]) -> list[int]:
    """Indices of the views of one image, the reference first."""
    ranked = sorted(range(len(views)), key=lambda i: views[i].order)
    upright = [
        i for i in ranked if not views[i].flip and not views[i].is_slice
    ]
    if not upright:
        raise ValueError(
            'tta_pipeline needs a view of the whole image without a flip: its '
            'boxes are the ones that all views score'
        )
    reference = upright[len(upright) // 2]
    return [reference, *(i for i in ranked if i != reference)]


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
    return inputs, samples
