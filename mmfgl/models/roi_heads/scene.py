"""What a RoI head knows of an image beside its RoIs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Scene:
    """One image as the candidate selector and the attention mask see it.

    N is the number of RoIs of the image.

    Attributes:
        img_shape: (height, width) in network-input pixels, without padding.
        scores: (N,) objectness of the RoIs, or ``None`` if unknown.
        readable: (N,) bool, RoIs that may enter the attention context, or
            ``None`` for all. In training the true boxes that the sampler adds
            are not readable: at test time nobody will offer them.
        attention_mask: (N, N) bool mask computed before, or ``None``.
    """

    img_shape: tuple[int, int]
    scores: Tensor | None = None
    readable: Tensor | None = None
    attention_mask: Tensor | None = None

    def sample(self, sampled, gt_added: bool) -> 'Scene':
        """The scene of the RoIs a sampler took from the proposals.

        Args:
            sampled: mmdet ``SamplingResult`` of the image.
            gt_added: Whether the sampler put the true boxes before the
                proposals (``add_gt_as_proposals``).

        Returns:
            Scene of the positive, then the negative sampled RoIs.
        """
        negatives = torch.zeros_like(sampled.neg_inds, dtype=torch.bool)
        is_gt = torch.cat([sampled.pos_is_gt.bool(), negatives])
        scores = None
        if self.scores is not None:
            num_gts = int(sampled.num_gts) if gt_added else 0
            scores = torch.cat([self.scores.new_ones(num_gts), self.scores])
            scores = scores[torch.cat([sampled.pos_inds, sampled.neg_inds])]
        return Scene(self.img_shape, scores, readable=~is_gt)
