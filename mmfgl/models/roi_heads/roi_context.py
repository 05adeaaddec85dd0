"""What a RoI head knows of an image beside its features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class RoIContext:
    """The RoIs of one image as candidate selector and attention mask see them.

    N is the number of RoIs of the image.

    Attributes:
        boxes: (N, 4) RoIs in network-input pixels.
        img_shape: (height, width) in network-input pixels, without padding;
            see :func:`mmfgl.models.layers.boxes.image_sides`.
        scores: (N,) objectness of the RoIs, or ``None`` if unknown.
        attendable: (N,) bool, RoIs that others may attend, or ``None`` for
            all. In training the true boxes that the sampler adds are not
            attendable: at test time nobody will offer them.
        attention_mask: (N, N) bool mask computed before, or ``None``.
    """

    boxes: Tensor
    img_shape: tuple[int, int] | Tensor
    scores: Tensor | None = None
    attendable: Tensor | None = None
    attention_mask: Tensor | None = None

    @classmethod
    def of_sampled(
        cls,
        sampled,
        img_shape: tuple[int, int],
        scores: Tensor | None,
        gt_added: bool,
    ) -> RoIContext:
        """The context of the RoIs that a sampler took from the proposals.

        Args:
            sampled: mmdet ``SamplingResult`` of the image; its RoIs are the
                positive ones, then the negative ones.
            img_shape: (height, width) in network-input pixels.
            scores: Objectness of all proposals, or ``None``.
            gt_added: Whether the sampler put the true boxes before the
                proposals (``add_gt_as_proposals``); their objectness is 1.
        """
        if scores is not None:
            num_added = int(sampled.num_gts) if gt_added else 0
            scores = torch.cat([scores.new_ones(num_added), scores])
            scores = scores[torch.cat([sampled.pos_inds, sampled.neg_inds])]
        attendable = torch.cat(
            [sampled.pos_is_gt == 0, torch.ones_like(sampled.neg_inds) > 0]
        )
        return cls(sampled.priors, img_shape, scores, attendable)
