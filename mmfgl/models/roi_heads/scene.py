"""What a RoI head knows of an image beside its RoIs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Scene:
    """One image as the candidate selector and the attention mask see it.

    N is the number of RoIs of the image, E that of its extra candidates.

    Attributes:
        img_shape: (height, width) in network-input pixels, without padding.
        scores: (N,) objectness of the RoIs, or ``None`` if unknown.
        readable: (N,) bool, RoIs that may enter the attention context, or
            ``None`` for all. In training the true boxes that the sampler adds
            are not readable: at test time nobody will offer them.
        attention_mask: (N, N) bool mask computed before, or ``None``.
        boxes: (N, 4) RoIs in network-input pixels, where :meth:`sample` is
            to find extra candidates, or ``None``.
        extra: (E, 4) further candidates in network-input pixels, which are
            read and not answered, or ``None``.
        extra_scores: (E,) their objectness, or ``None`` if unknown.
    """

    img_shape: tuple[int, int]
    scores: Tensor | None = None
    readable: Tensor | None = None
    attention_mask: Tensor | None = None
    boxes: Tensor | None = None
    extra: Tensor | None = None
    extra_scores: Tensor | None = None

    def sample(self, sampled, gt_added: bool, num_extra: int = 0) -> 'Scene':
        """The scene of the RoIs a sampler took from the proposals.

        Args:
            sampled: mmdet ``SamplingResult`` of the image.
            gt_added: Whether the sampler put the true boxes before the
                proposals (``add_gt_as_proposals``).
            num_extra: Proposals of highest objectness among those that were
                not sampled to keep as extra candidates.

        Returns:
            Scene of the positive, then the negative sampled RoIs.
        """
        num_gts = int(sampled.num_gts) if gt_added else 0
        chosen = torch.cat([sampled.pos_inds, sampled.neg_inds])
        negatives = torch.zeros_like(sampled.neg_inds, dtype=torch.bool)
        is_gt = torch.cat([sampled.pos_is_gt.bool(), negatives])
        scene = Scene(self.img_shape, readable=~is_gt)
        if self.scores is not None:
            scores = torch.cat([self.scores.new_ones(num_gts), self.scores])
            scene.scores = scores[chosen]
        if num_extra and self.boxes is not None:
            spare = torch.ones(
                len(self.boxes), dtype=torch.bool, device=self.boxes.device
            )
            spare[chosen[chosen >= num_gts] - num_gts] = False
            rows = spare.nonzero().squeeze(1)
            if self.scores is not None:
                order = self.scores[rows].argsort(descending=True)
                rows = rows[order]
                scene.extra_scores = self.scores[rows[:num_extra]]
            scene.extra = self.boxes[rows[:num_extra]]
        return scene

    def with_extra(self, boxes: Tensor) -> tuple[Tensor, 'Scene']:
        """Append the extra candidates to the RoIs.

        Args:
            boxes: (N, 4) RoIs of the image.

        Returns:
            - (N + E, 4) candidates.
            - Their scene, without extra ones.
        """
        if self.extra is None or not len(self.extra):
            return boxes, self
        scores = None
        if self.scores is not None and self.extra_scores is not None:
            scores = torch.cat([self.scores, self.extra_scores])
        readable = self.readable
        if readable is not None:
            more = readable.new_ones(len(self.extra))
            readable = torch.cat([readable, more])
        boxes = torch.cat([boxes, self.extra.to(boxes)])
        return boxes, Scene(self.img_shape, scores, readable)
