"""Region tokens of the views of a pretraining.

Shape shorthand: B images, V views, N regions an image, D token width. Views
are stacked view by view: row ``v * B + b``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.layers.attention_mask import iou_attention_mask
from mmfgl.models.layers.boxes import normalise_boxes


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
    boxes = stack_views([s.boxes for s in data_samples])  # (V B, N, 4)
    roi_head = source.roi_head
    feats = source.neck(source.backbone(views))
    tokens, places = tokenize_regions(roi_head, feats, boxes, views.shape[-2:])
    mask = iou_attention_mask(boxes, **roi_head.attention)
    memory = roi_head.transformer.encode(tokens + places, mask, boxes)
    return memory.unflatten(0, (len(inputs), len(data_samples)))


def tokenize_regions(
    roi_head: nn.Module,
    feats: tuple[Tensor, ...],
    boxes: Tensor,
    img_shape: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Content tokens and position embeddings of the regions of views.

    Args:
        roi_head: Region encoder of student or teacher.
        feats: Pyramid levels of B views.
        boxes: (B, N, 4) boxes in view pixels.
        img_shape: (height, width) of the views.

    Returns:
        Two (B, N, D) tensors.
    """
    num_views, num_regions = boxes.shape[:2]
    index = torch.arange(num_views, device=boxes.device, dtype=boxes.dtype)
    index = index.repeat_interleave(num_regions).unsqueeze(1)
    rois = torch.cat([index, boxes.flatten(0, 1)], dim=1)  # (B N, 5)
    tokens = roi_head.region_tokens(feats, rois)
    places = roi_head.tokenizer.embed_position(
        normalise_boxes(boxes, img_shape)
    )
    return tokens.view(num_views, num_regions, -1), places


def stack_views(boxes: list[Tensor]) -> Tensor:
    """B tensors (V, N, 4) -> (V B, N, 4), view by view.

    Args:
        boxes: One tensor an image.

    Returns:
        The boxes of all views.
    """
    return torch.stack(boxes, dim=1).flatten(0, 1)
