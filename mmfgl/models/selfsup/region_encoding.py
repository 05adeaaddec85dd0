"""Region tokens of a pretraining, outside of its training step."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfgl.structures import RegionDataSample, iou_attention_mask

from .retod import _stack_views, _tokenize


@torch.no_grad()
def encode_regions(
    model: nn.Module,
    inputs: Sequence[Tensor],
    data_samples: Sequence[RegionDataSample],
    branch: str = 'teacher',
) -> Tensor:
    """Encoded tokens of the exact regions of all views, nothing masked.

    Args:
        model: A :class:`ReToD`, without distributed wrapper, in evaluation
            mode.
        inputs: V preprocessed views, each (B, 3, H, W).
        data_samples: Regions of the B images.
        branch: ``'teacher'`` or ``'student'``.

    Returns:
        (V, B, N, D) tokens.
    """
    source = model
    if branch == 'teacher':
        model.teacher.start(model)
        source = model.teacher
    views = torch.cat(list(inputs))  # (V B, 3, H, W)
    boxes = _stack_views([s.boxes for s in data_samples])  # (V B, N, 4)
    roi_head = source.roi_head
    feats = source.neck(source.backbone(views))
    tokens, places = _tokenize(roi_head, feats, boxes, views.shape[-2:])
    mask = iou_attention_mask(boxes, **roi_head.attention)
    memory = roi_head.transformer.encode(tokens + places, mask, boxes)
    return memory.unflatten(0, (len(inputs), len(data_samples)))
