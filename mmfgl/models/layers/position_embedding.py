"""Learnable position embedding of boxes."""

import math

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS

# Frequencies for each of the four numbers.
NUM_OCTAVES = 6


@MODELS.register_module()
class BoxPositionEmbedding(BaseModule):
    """Learnable embedding of where a region lies and how large it is.

    A box becomes Fourier features of its centre and of the logarithms of its
    sides, at fixed octaves, then a learnable linear layer (D wide). The
    features make nearby boxes similar; what matters about them is learnt.
    """

    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        octaves = math.pi * 2.0 ** torch.arange(NUM_OCTAVES)
        self.register_buffer('octaves', octaves, persistent=False)
        self.proj = nn.Linear(4 + 8 * NUM_OCTAVES, embed_dims)
        # at first it must not drown the content of the tokens
        nn.init.normal_(self.proj.weight, std=0.02)
        nn.init.zeros_(self.proj.bias)

    def forward(self, boxes: Tensor) -> Tensor:
        """(..., 4) boxes normalised by the image -> (..., D) embeddings."""
        boxes = boxes.float()
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-3)
        # log2 of a side in [1/1000, 1], scaled to about [-1, 0]
        numbers = torch.cat([centres, sides.log2() / 10], dim=-1)
        angles = numbers.unsqueeze(-1) * self.octaves  # (..., 4, octaves)
        features = torch.cat(
            [numbers, angles.sin().flatten(-2), angles.cos().flatten(-2)],
            dim=-1,
        )
        return self.proj(features)
