"""IoU attention masks: which regions of one image may read each other.

Shapes: ``...`` any batch dimensions, N targets (rows), M candidates (columns).
A mask is boolean, ``True`` where attention is open, as
:func:`torch.nn.functional.scaled_dot_product_attention` expects.
"""

import torch
from torch import Tensor

from .boxes import pairwise_iou


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
    iou = pairwise_iou(targets.float(), candidates.float())
    # IoU of a box with itself can round to a hair above 1
    mask = (iou >= low) & (iou <= high + 1e-6)
    if context is not None:
        mask = mask & context.unsqueeze(-2)
    num_targets = targets.shape[-2]
    if diagonal is None:
        diagonal = torch.arange(num_targets, device=targets.device)
    own = diagonal.expand(mask.shape[:-1]).unsqueeze(-1)
    return mask.scatter(-1, own, torch.ones_like(own, dtype=torch.bool))


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
