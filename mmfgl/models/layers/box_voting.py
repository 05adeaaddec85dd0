"""Box voting: NMS keeps a box, its neighbours say where it ends.

Shape shorthand: R RoIs, N detections, C classes, K = 1 or C boxes an RoI.
"""

import torch
from torch import Tensor

from mmfgl.models.layers.boxes import pairwise_iou


def vote_neighbours(
    kept: Tensor,
    labels: Tensor,
    boxes: Tensor,
    scores: Tensor,
    voting_iou: float,
) -> Tensor:
    """Move boxes to the mean of their neighbours of the same class.

    Box voting, arXiv 1505.01749: the boxes that NMS throws away know better
    together where the object ends.

    Args:
        kept: (N, 4) boxes kept by NMS.
        labels: (N,) their classes.
        boxes: (R, 4 K) boxes of all RoIs, same frame.
        scores: (R, C + 1) their scores, which weigh them.
        voting_iou: IoU from which on a box is a neighbour.

    Raises:
        ValueError: An RoI has neither one box nor one a class.
    """
    corners = boxes.unflatten(-1, (boxes.shape[-1] // 4, 4))
    if corners.shape[1] not in (1, scores.shape[-1] - 1):
        raise ValueError(
            f'the box head gives {corners.shape[1]} boxes an RoI for '
            f'{scores.shape[-1] - 1} classes; box voting needs one box an '
            'RoI or one a class: set voting_iou=None'
        )
    column = labels if corners.shape[1] > 1 else labels * 0
    near = corners[:, column]  # (R, N, 4)
    overlap = pairwise_iou(kept.unsqueeze(1), near.transpose(0, 1))
    close = (overlap.squeeze(1) >= voting_iou).T  # (R, N)
    votes = (scores[:, labels] * close).unsqueeze(-1)
    total = votes.sum(0).clamp(min=torch.finfo(votes.dtype).tiny)
    return kept + (votes * (near - kept)).sum(0) / total
