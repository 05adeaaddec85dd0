"""Projector: region tokens to logits over prototypes."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionProjector(BaseModule):
    """Two-layer projector with L2-normalised output and prototypes.

    BatchNorm over all tokens takes away what they have in common: at the
    start regions of an untrained pyramid are nearly parallel, and a target
    that is the same for all of them teaches nothing.

    Logits are cosines between the projected token and K prototypes, in
    [-1, 1]; the losses divide them by their temperatures.

    Args:
        in_channels: Token width D.
        hidden_channels: Width of the hidden layer.
        out_channels: Width of the projection.
        num_prototypes: Number of prototypes K.
    """

    def __init__(
        self,
        in_channels: int = 256,
        hidden_channels: int = 1024,
        out_channels: int = 256,
        num_prototypes: int = 4096,
    ) -> None:
        super().__init__()
        self.num_prototypes = num_prototypes
        self.layers = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.BatchNorm1d(hidden_channels),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_channels, out_channels),
            nn.BatchNorm1d(out_channels, affine=False),
        )
        self.prototypes = nn.Linear(out_channels, num_prototypes, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Score tokens against the prototypes.

        Args:
            tokens: (..., D) region tokens.

        Returns:
            (..., K) cosines in fp32.
        """
        x = self.layers(tokens.flatten(0, -2)).unflatten(0, tokens.shape[:-1])
        x = F.normalize(x.float(), dim=-1)
        prototypes = F.normalize(self.prototypes.weight.float(), dim=-1)
        # temperatures magnify rounding, so no autocast here
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x, prototypes)
