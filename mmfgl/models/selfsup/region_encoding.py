"""Region tokens of views, for student, EMA teacher and probe.

Shape shorthand: B views (all views of all images), N regions a view, R = B N
RoIs, D token width (of the FGL tokens, or of the box head's shared layers).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox2roi
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.layers import (
    close_leaks,
    iou_attention_mask,
    normalise_boxes,
    readable_levels,
)
from mmfgl.models.roi_heads import FGLRoIHead


@dataclass
class Masking:
    """Which tokens lose their content before they are encoded.

    Attributes:
        masked: (B, N) bool, ``True`` = masked.
        mask_token: (D,) what stands in their place.
        leak_iou: A masked token may not attend an unmasked one that overlaps
            it more than this, over all layers.
    """

    masked: Tensor
    mask_token: Tensor
    leak_iou: float


def encode_regions(
    roi_head: nn.Module,
    feats: Sequence[Tensor],
    boxes: Tensor,
    img_shape: tuple[int, int],
    masking: Masking | None = None,
) -> Tensor:
    """Pool, tokenize, mask and encode the regions of views.

    Args:
        roi_head: An :class:`FGLRoIHead`, or a RoI head whose box head has
            shared layers: their output is the token then, unmasked and
            unencoded.
        feats: Pyramid levels, each (B, C, H_l, W_l).
        boxes: (B, N, 4) regions in view pixels.
        img_shape: (height, width) of the views in pixels.
        masking: Tokens to mask, FGL heads only.

    Returns:
        (B, N, D) tokens.
    """
    shape = boxes.shape[:2]
    rois = bbox2roi(list(boxes))  # (R, 5)
    if not isinstance(roi_head, FGLRoIHead):
        return shared_features(roi_head, feats, rois).view(*shape, -1)
    tokens = roi_head.region_tokens(feats, rois).view(*shape, -1)
    pos_embed = roi_head.tokenizer.embed_position(
        normalise_boxes(boxes, img_shape)
    )
    mask = iou_attention_mask(boxes, **roi_head.attention)
    if masking is not None:
        tokens = torch.where(
            masking.masked.unsqueeze(-1),
            masking.mask_token.to(tokens.dtype),
            tokens,
        )
        mask = close_leaks(
            mask,
            boxes,
            masking.masked,
            masking.leak_iou,
            num_layers=len(roi_head.transformer.encoder),
        )
    return roi_head.transformer.encode(tokens + pos_embed, mask, boxes)


def shared_features(
    roi_head: nn.Module, feats: Sequence[Tensor], rois: Tensor
) -> Tensor:
    """Output of the shared layers of a box head of mmdet.

    Args:
        roi_head: RoI head with an mmdet ``ConvFCBBoxHead``.
        feats: Pyramid levels, each (B, C, H_l, W_l).
        rois: (R, 5) rows (view index, x1, y1, x2, y2) in view pixels.

    Returns:
        (R, D) features.
    """
    extractor, head = roi_head.bbox_roi_extractor, roi_head.bbox_head
    x = extractor(readable_levels(feats[: extractor.num_inputs]), rois)
    if roi_head.with_shared_head:
        x = roi_head.shared_head(x)
    for conv in head.shared_convs:
        x = conv(x)
    if head.with_avg_pool:
        x = head.avg_pool(x)
    x = x.flatten(1)
    for layer in head.shared_fcs:
        x = head.relu(layer(x))
    return x


def has_shared_features(roi_head: nn.Module) -> bool:
    """Whether :func:`shared_features` can read a RoI head."""
    head = getattr(roi_head, 'bbox_head', None)
    return bool(getattr(head, 'num_shared_fcs', 0))


def stack_views(data_samples: Sequence[RegionDataSample]) -> Tensor:
    """(V B, N, 4) regions in view pixels, row ``v * B + b``."""
    boxes = [sample.boxes for sample in data_samples]
    return torch.stack(boxes, dim=1).flatten(0, 1)


@torch.no_grad()
def encode_views(
    model: nn.Module,
    inputs: Sequence[Tensor],
    data_samples: Sequence[RegionDataSample],
    branch: str = 'student',
) -> Tensor:
    """Encoded tokens of the regions of all views, nothing masked.

    Args:
        model: A :class:`ReToD`, without distributed wrapper, in evaluation
            mode.
        inputs: V preprocessed views, each (B, 3, H, W).
        data_samples: Regions of the B images.
        branch: ``'teacher'`` or ``'student'``.

    Returns:
        (V, B, N, D) tokens.

    Raises:
        ValueError: If the teacher of a model without one is asked for.
    """
    source = model
    if branch == 'teacher':
        source = model.target_generator
        if source is None:
            raise ValueError(
                "this ReToD has no EMA teacher: use branch='student', or "
                "give it target_generator=dict(type='mmfgl.EMATeacher')"
            )
        source.start(model)
    views = torch.cat(list(inputs))  # (V B, 3, H, W)
    feats = source.extract_feat(views)
    boxes = stack_views(data_samples)
    tokens = encode_regions(source.roi_head, feats, boxes, views.shape[-2:])
    return tokens.unflatten(0, (len(inputs), len(data_samples)))
