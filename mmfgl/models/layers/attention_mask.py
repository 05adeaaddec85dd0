"""IoU attention masks: which regions of one image may read each other.

Shapes: ``...`` any batch dimensions, N regions. A mask is boolean, row i what
region i reads, ``True`` where attention is open, as
:func:`torch.nn.functional.scaled_dot_product_attention` expects.
"""

import torch
from torch import Tensor

from mmfgl.models.layers.boxes import pairwise_iou

# Pairs of boxes compared at once: at 4,000 candidates an image, unsliced
# intermediate results would take some 400 MB.
MAX_PAIRS = 2**22


def iou_attention_mask(
    boxes: Tensor, low: float = 0.1, high: float = 1.0
) -> Tensor:
    """Open region j to region i iff their IoU lies in ``[low, high]``.

    The diagonal is always open, because a fully masked row gives NaN gradients
    even where its output is unused.

    Args:
        boxes: (..., N, 4) boxes, any one frame. Those of one batch entry must
            belong to one image, so that no attention links images.
        low: Lower end of the IoU band, inclusive.
        high: Upper end of the IoU band, inclusive.

    Raises:
        ValueError: If the band is empty or lies outside [0, 1].
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f'the IoU band needs 0 <= low <= high <= 1, got [{low}, {high}]'
        )
    boxes = boxes.float()
    step = max(1, MAX_PAIRS // max(1, boxes.shape[:-1].numel()))
    # a split is traced with its number of parts: none where one is enough
    whole = step >= boxes.shape[-2]
    rows = []
    for part in [boxes] if whole else boxes.split(step, dim=-2):
        iou = pairwise_iou(part, boxes)
        # IoU of a box with itself can round to a hair above 1
        rows.append((iou >= low) & (iou <= high + 1e-6))
    return torch.cat(rows, dim=-2) | diagonal(boxes)


def close_leaks(
    mask: Tensor,
    boxes: Tensor,
    masked: Tensor,
    max_iou: float,
    num_layers: int,
) -> Tensor:
    """Stop masked tokens from copying their answer off an overlapping token.

    A masked token (one whose content was replaced by the mask token) must not
    read an unmasked one whose box overlaps its own by more than ``max_iou``,
    nor a third one that has read it in an earlier layer. So it loses every
    pair that begins a chain of at most ``num_layers`` open pairs to such a
    token. Unmasked tokens keep all theirs, and so does the diagonal.

    Args:
        mask: (..., N, N) bool attention mask.
        boxes: (..., N, 4) boxes of the tokens, one frame.
        masked: (..., N) bool, ``True`` where the token was masked.
        max_iou: Overlap above which an unmasked token gives the answer away.
        num_layers: Number of layers that attend through the mask.
    """
    leaks = pairwise_iou(boxes.float(), boxes.float()) > max_iou
    leaks = leaks & masked.unsqueeze(-1) & ~masked.unsqueeze(-2)
    own = diagonal(boxes)
    # what each token has read after the layers before: at first itself
    seen = own.float().expand(mask.shape)
    for _ in range(num_layers - 1):
        seen = ((mask & ~leaks).float() @ seen > 0).float()
    closed = leaks.float() @ seen.transpose(-1, -2) > 0
    return mask & (own | ~closed)


def log_geometry(targets: Tensor, candidates: Tensor) -> Tensor:
    """Logarithms of where a candidate lies relative to a target.

    ``log(|dx| / w), log(|dy| / h), log(w' / w), log(h' / h)`` with the
    target's sides w, h and the candidate's w', h', as in Relation Networks
    (arXiv 1711.11575); offsets below a thousandth count as one. Both (..., 4)
    boxes of one frame, pair by pair.

    Returns:
        (..., 4) fp32 values in [-7, 7], finite for boxes without area.
    """
    targets, candidates = targets.float(), candidates.float()
    sides = (targets[..., 2:] - targets[..., :2]).clamp(min=1e-6)
    others = (candidates[..., 2:] - candidates[..., :2]).clamp(min=1e-6)
    centres = candidates[..., :2] + candidates[..., 2:]
    offsets = (centres - targets[..., :2] - targets[..., 2:]).abs() / 2
    ratios = torch.cat([offsets / sides, others / sides], dim=-1)
    return ratios.clamp(min=1e-3).log().clamp(-7, 7)


def diagonal(boxes: Tensor) -> Tensor:
    """(N, N) bool identity for (..., N, 4) boxes."""
    rows = torch.arange(boxes.shape[-2], device=boxes.device)
    return rows[:, None] == rows
