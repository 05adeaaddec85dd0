"""What the tasks of one training step share.

Shape shorthand: B images, V views, N regions an image, D token width, K
prototypes. Views are stacked view by view: row ``v * B + b``.
"""

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.selfsup.region_encoding import (
    Masking,
    encode_regions,
    stack_views,
)


class TaskContext:
    """Views, features, tokens and targets of one step.

    Each is computed when it is first read, from the *configured* tasks: which
    of their losses are computed in a step changes no input of the others, so
    that skipping a loss leaves the expected gradient as it is.

    Args:
        model: The :class:`ReToD`.
        views: (V B, 3, H, W) all views.
        data_samples: Regions of the B images.
    """

    def __init__(
        self,
        model: nn.Module,
        views: Tensor,
        data_samples: Sequence[RegionDataSample],
    ) -> None:
        self.model = model
        self.views = views
        self.data_samples = data_samples
        self.num_views = len(views) // len(data_samples)
        self.img_shape = tuple(views.shape[-2:])

    @cached_property
    def maps(self) -> tuple[Tensor, ...]:
        """The student's backbone of all views, each (V B, C, H_l, W_l)."""
        return self.model.backbone(self.views)

    @cached_property
    def feats(self) -> tuple[Tensor, ...]:
        """The student's pyramid of all views, each (V B, C, H_l, W_l)."""
        model = self.model
        return model.neck(self.maps) if model.with_neck else self.maps

    @cached_property
    def boxes(self) -> Tensor:
        """(V B, N, 4) regions in view pixels."""
        return stack_views(self.data_samples)

    @cached_property
    def masking(self) -> Masking | None:
        """Which tokens the student loses, if a task masks any."""
        if 'mask' not in self.model.tasks:
            return None
        return self.model.tasks['mask'].draw(*self.boxes.shape[:2])

    @cached_property
    def logits(self) -> Tensor:
        """(V B, N, K) logits of the student's tokens, some of them masked."""
        tokens = encode_regions(
            self.model.roi_head,
            self.feats,
            self.boxes,
            self.img_shape,
            self.masking,
        )
        return self.model.head(tokens)

    @cached_property
    @torch.no_grad()
    def targets(self) -> Tensor:
        """(V B, N, K) fp32 distributions of the EMA teacher, same view."""
        teacher = self.model.target_generator
        tokens = encode_regions(
            teacher.roi_head,
            teacher.extract_feat(self.views),
            self.boxes,
            self.img_shape,
        )
        return self.model.head.targets(teacher.projector(tokens))

    @property
    def unmasked(self) -> Tensor:
        """(V B, N) bool, the student's tokens that kept their content."""
        if self.masking is None:
            return torch.ones_like(self.boxes[..., 0], dtype=torch.bool)
        return ~self.masking.masked
