"""IoU attention masks: which regions of one image may read each other.

Shapes: ``...`` any batch dimensions, N targets (rows), M candidates (columns).
A mask is boolean, ``True`` where attention is open, as
:func:`torch.nn.functional.scaled_dot_product_attention` expects.
"""

import torch
from torch import Tensor

from mmfgl.models.layers.boxes import pairwise_iou

# Pairs of boxes compared at once: at 4,000 candidates an image, unsliced
# intermediate results would take some 400 MB.
MAX_PAIRS = 2**22


def iou_attention_mask(
    targets: Tensor,
    candidates: Tensor | None = None,
    low: float = 0.1,
    high: float = 1.0,
    context: Tensor | None = None,
    diagonal: Tensor | None = None,
) -> Tensor:
    """Open candidate j to target i iff their IoU lies in ``[low, high]``.

    Every target keeps its own column open whatever its IoU, because a fully
    masked row gives NaN gradients even where its output is unused.

    All boxes of one call must belong to one image per batch entry: images are
    never mixed in a row, so no attention can link them.

    Args:
        targets: (..., N, 4) boxes (x1, y1, x2, y2), any one frame.
        candidates: (..., M, 4) boxes of the same frame. Defaults to
            ``targets``.
        low: Lower end of the IoU band, inclusive.
        high: Upper end of the IoU band, inclusive.
        context: (..., M) bool, ``False`` for candidates that no other target
            may read. Defaults to all ``True``.
        diagonal: (N,) or (..., N) long, the candidate that is the target
            itself. Defaults to ``arange(N)``, which needs N <= M.

    Returns:
        (..., N, M) bool mask with at least one open column in every row.

    Raises:
        ValueError: If the band is empty or lies outside [0, 1].
    """
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f'the IoU band needs 0 <= low <= high <= 1, got [{low}, {high}]'
        )
    if candidates is None:
        candidates = targets
    if diagonal is None:
        diagonal = torch.arange(targets.shape[-2], device=targets.device)
    width = max(1, candidates.shape[:-1].numel())
    step = max(1, MAX_PAIRS // width)
    rows = [
        _in_band(part, candidates.float(), low, high)
        for part in targets.float().split(step, dim=-2)
    ]
    mask = rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)
    if context is not None:
        mask = mask & context.unsqueeze(-2)
    own = diagonal.expand(mask.shape[:-1]).unsqueeze(-1)
    return mask.scatter_(-1, own, True)


def _in_band(
    targets: Tensor, candidates: Tensor, low: float, high: float
) -> Tensor:
    """(..., N, M) bool: pairs whose IoU lies in the band."""
    iou = pairwise_iou(targets, candidates)
    # IoU of a box with itself can round to a hair above 1
    return (iou >= low) & (iou <= high + 1e-6)


def close_leaks(
    mask: Tensor, boxes: Tensor, masked: Tensor, max_iou: float = 0.5
) -> Tensor:
    """Stop masked tokens from copying their answer off an overlapping token.

    A masked token (one whose content was replaced by the mask token) may not
    attend an unmasked one whose box overlaps its own by more than
    ``max_iou``. The diagonal stays as it is.

    Args:
        mask: (..., N, N) bool attention mask.
        boxes: (..., N, 4) boxes of the tokens, one frame.
        masked: (..., N) bool, ``True`` where the token was masked.
        max_iou: Overlap above which an unmasked token gives the answer away.

    Returns:
        (..., N, N) bool mask.
    """
    leaks = pairwise_iou(boxes.float(), boxes.float()) > max_iou
    leaks = leaks & masked.unsqueeze(-1) & ~masked.unsqueeze(-2)
    return mask & ~leaks


def log_geometry(targets: Tensor, candidates: Tensor) -> Tensor:
    """Logarithms of where a candidate lies relative to a target.

    log(|dx| / w), log(|dy| / h), log(w' / w), log(h' / h) with the target's
    sides w, h and the candidate's w', h', as in Relation Networks (arXiv
    1711.11575); offsets below a thousandth count as one.

    Args:
        targets: (..., 4) boxes, any one frame.
        candidates: (..., 4) boxes of the same frame, pair by pair.

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
