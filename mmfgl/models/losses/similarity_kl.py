"""Kullback-Leibler divergence of similarities to the same anchors.

Shape shorthand: N tokens, A anchors, E width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def similarity_kl(
    student: Tensor,
    teacher: Tensor,
    anchors: Tensor,
    temperature: float,
    valid: Tensor | None = None,
) -> Tensor:
    """How far the student's soft choice of anchors is from the teacher's.

    Tokens and anchors are compared by their cosine; autocast is off, for low
    temperatures magnify rounding.

    Args:
        student: (..., N, E) tokens.
        teacher: (..., N, E) tokens, without gradient.
        anchors: (..., A, E), without gradient.
        temperature: Divides the cosines, of both.
        valid: (A,) bool, the anchors that count; ``None`` for all. One at
            least must.

    Returns:
        (..., N) fp32 divergences.
    """
    with torch.autocast(student.device.type, enabled=False):
        own, target, anchors = (
            F.normalize(x.float(), dim=-1) for x in (student, teacher, anchors)
        )
        anchors = anchors.transpose(-1, -2) / temperature
        logits, targets = own @ anchors, target @ anchors  # (..., N, A)
        if valid is not None:
            # no infinity: 0 x infinity is no number
            least = torch.finfo(logits.dtype).min
            logits = logits.masked_fill(~valid, least)
            targets = targets.masked_fill(~valid, least)
        logs, target_logs = logits.log_softmax(-1), targets.log_softmax(-1)
        return (target_logs.exp() * (target_logs - logs)).sum(dim=-1)
