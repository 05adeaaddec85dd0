"""Candidate selection: which candidates are read, which are answered.

Shape shorthand: R candidates of one image, Q important targets, D token width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfgl.models.layers import border_overlap, pairwise_iou
from mmfgl.registry import TASK_UTILS

BORDER_BAND = 0.02
CONSENSUS_IOU = 0.5
PROTOTYPE_SCORE = 0.1


@dataclass
class Selection:
    """What the selector decided for one image.

    Attributes:
        context: (R,) bool, candidates that others may read.
        targets: (Q,) long important targets, in the order of the candidates.
    """

    context: Tensor
    targets: Tensor


@TASK_UTILS.register_module()
class CandidateSelector:
    """Filter the candidates of one image and pick its important targets.

    A candidate leaves the attention context when it looks like background
    (objectness below ``score_thr``, or a token whose cosine similarity to the
    mean token of the candidates of objectness below 0.1 exceeds
    ``similarity_thr``) or when it lies on the image border (more than
    ``border_thr`` of its area in a band of 0.02 of the image's sides). At
    least ``min_kept`` candidates stay: the filters give back the ones of
    highest objectness.

    Important targets are, at test time, the ``num_targets`` candidates of
    highest consensus x objectness, where the consensus of a candidate is
    1 + the sum of its IoUs (of at least 0.5) with the others, weighted by
    their objectness. In training every sampled RoI is a target.

    Args:
        score_thr: Threshold of the objectness filter, 0 for none.
        similarity_thr: Threshold of the prototype filter, ``None`` for none.
        border_thr: Threshold of the border filter, ``None`` for none.
        min_kept: Floor of the filters.
        mode: ``'context'`` removes filtered candidates from the attention
            context only, so that truncated objects can still be found;
            ``'drop'`` removes them from the output too.
        num_targets: Number Q of important targets at test time. ``None``
            takes all.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        score_thr: float = 0.0,
        similarity_thr: float | None = None,
        border_thr: float | None = 0.9,
        min_kept: int = 16,
        mode: str = 'context',
        num_targets: int | None = None,
    ) -> None:
        if mode not in ('context', 'drop'):
            raise ValueError(f"mode must be 'context' or 'drop', got {mode!r}")
        if min_kept < 1 or (num_targets is not None and num_targets < 1):
            raise ValueError(
                'min_kept and num_targets must be >= 1, got '
                f'{min_kept} and {num_targets}'
            )
        self.score_thr = score_thr
        self.similarity_thr = similarity_thr
        self.border_thr = border_thr
        self.min_kept = min_kept
        self.mode = mode
        self.num_targets = num_targets

    @torch.no_grad()
    def select(
        self,
        boxes: Tensor,
        img_shape: tuple[int, int],
        scores: Tensor | None = None,
        tokens: Tensor | None = None,
        training: bool = False,
    ) -> Selection:
        """Select among the candidates of one image.

        In training images of one size with equally many candidates may come
        together: all shapes, given and returned, then begin with B.

        Args:
            boxes: (R, 4) candidates in network-input pixels.
            img_shape: (height, width) of the image in the same pixels,
                without padding.
            scores: (R,) objectness in [0, 1], 1 by default.
            tokens: (R, D) region tokens, needed for ``similarity_thr``.
            training: Whether all candidates are targets.

        Returns:
            The selection; neither context nor targets are empty unless R is 0.

        Raises:
            ValueError: If ``similarity_thr`` is set and no token given.
        """
        boxes = boxes.float()
        scores = (
            boxes.new_ones(boxes.shape[:-1])
            if scores is None
            else scores.float()
        )
        if self.similarity_thr is not None and tokens is None:
            raise ValueError(
                'similarity_thr compares region tokens, but none were given '
                'to select()'
            )
        context = self._filter(boxes, img_shape, scores, tokens)
        targets = torch.arange(boxes.shape[-2], device=boxes.device)
        targets = targets.expand(context.shape)
        if not training:
            if self.mode == 'drop':
                targets = targets[context]
            targets = self._most_important(targets, boxes, scores)
        return Selection(context, targets)

    def _filter(
        self,
        boxes: Tensor,
        img_shape: tuple[int, int],
        scores: Tensor,
        tokens: Tensor | None,
    ) -> Tensor:
        """(R,) bool: candidates that pass the filters, floor included."""
        passed = scores >= self.score_thr
        if self.similarity_thr is not None:
            low = scores < PROTOTYPE_SCORE
            tokens = tokens.float()
            # a sum: the cosine ignores its length
            prototype = (tokens * low[..., None]).sum(dim=-2, keepdim=True)
            similarity = F.cosine_similarity(tokens, prototype, dim=-1)
            alike = similarity > self.similarity_thr
            alike = alike & low.any(dim=-1, keepdim=True)
            passed = passed & ~alike
        if self.border_thr is not None:
            overlap = border_overlap(boxes, img_shape, BORDER_BAND)
            passed = passed & (overlap <= self.border_thr)
        # those that passed come first, then the others by objectness
        rank = scores.masked_fill(passed, torch.inf)
        floor = rank.argsort(descending=True)[..., : self.min_kept]
        # by a tensor: tracing has no index_fill or scatter of a Python bool
        return passed.scatter(-1, floor, torch.ones_like(floor) > 0)

    def _most_important(
        self, pool: Tensor, boxes: Tensor, scores: Tensor
    ) -> Tensor:
        """(Q,) long: the most important of the candidates of a pool."""
        if self.num_targets is None or len(pool) <= self.num_targets:
            return pool
        boxes, scores = boxes[pool], scores[pool]
        iou = pairwise_iou(boxes, boxes).fill_diagonal_(0)
        # not a product of matrices, which autocast would round
        agreement = iou.masked_fill_(iou < CONSENSUS_IOU, 0).mul_(scores)
        importance = scores * (1 + agreement.sum(dim=1))
        best = importance.topk(self.num_targets).indices
        return pool[best.sort().values]
