"""Attention through a mask, with an optional bias of the boxes' geometry.

Shape shorthand: B images, N candidates, Q queries, D token width, H heads, P
open pairs.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.layers.attention_mask import log_geometry

# Attention scores held at once, over all heads and images. Longer queries go
# through in slices: 4,000 candidates an image stay below 130 MB in fp32.
MAX_SCORES = 2**25

# Gives the (B, H, rows, N) scores to add for a slice of the queries.
Bias = Callable[[slice], Tensor]


class GeometryBias(BaseModule):
    """Learnable bias of attention from the relative geometry of two boxes.

    Relation Networks (arXiv 1711.11575) add the logarithm of a learnt
    geometric weight to the attention scores. Here a small network maps
    the same log offsets to one bias a head; it starts at zero. Only open
    pairs are computed.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.layers = nn.Sequential(
            nn.Linear(4, 16),
            nn.ReLU(inplace=True),
            nn.Linear(16, num_heads),
        )
        for param in self.layers[-1].parameters():
            nn.init.zeros_(param)

    def forward(
        self, mask: Tensor, targets: Tensor, candidates: Tensor
    ) -> Tensor:
        """(B, Q, N) bool mask -> (B, H, Q, N) scores to add.

        They are minus infinity where the mask is closed. (B, Q, 4) boxes of
        the queries and (B, N, 4) of the memory lie in one frame.
        """
        image, row, column = mask.nonzero(as_tuple=True)  # each (P,)
        pairs = log_geometry(targets[image, row], candidates[image, column])
        values = self.layers(pairs)  # (P, H)
        shape = mask.unsqueeze(1).expand(-1, self.num_heads, -1, -1).shape
        bias = values.new_full(shape, float('-inf'))
        bias[image, :, row, column] = values
        return bias


class MaskedAttention(BaseModule):
    """Multi-head attention of queries to a memory through a mask.

    The output projection starts at zero, so a block starts as the identity.

    Args:
        embed_dims: Token width D.
        num_heads: Number of heads H, a divisor of A.
        attention_dims: Width A of queries, keys and values, D by default;
            attention and its projections cost in proportion.

    Raises:
        ValueError: If ``num_heads`` does not divide A.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, attention_dims: int | None
    ) -> None:
        super().__init__()
        inner = attention_dims or embed_dims
        if inner % num_heads:
            raise ValueError(
                f'num_heads ({num_heads}) must divide attention_dims '
                f'(embed_dims by default), which is {inner}'
            )
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dims, inner)
        self.key_value = nn.Linear(embed_dims, 2 * inner)
        self.out = nn.Linear(inner, embed_dims)
        for param in self.out.parameters():
            nn.init.zeros_(param)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor,
        bias: Bias | None = None,
    ) -> Tensor:
        """Attend from ``x`` to ``memory``.

        Args:
            x: (B, Q, D) queries.
            memory: (B, N, D) memory.
            mask: (B, Q, N) bool, ``True`` = open.
            bias: Scores to add, minus infinity where the mask is closed.

        Returns:
            (B, Q, D) answers, without the residual.
        """
        key, value = self._keys_and_values(memory)
        out = self._attend(x, key, value, mask, bias)
        return self.out(out.transpose(1, 2).flatten(2))

    def weights(
        self, x: Tensor, memory: Tensor, mask: Tensor, bias: Bias | None = None
    ) -> Tensor:
        """(B, Q, N) attention weights, the mean of the heads, for pictures.

        Arguments as in :meth:`forward`.
        """
        key, _ = self._keys_and_values(memory)
        # values that name their row: attention gives back its weights
        one_hot = torch.eye(key.shape[2]).to(key).expand(*key.shape[:3], -1)
        return self._attend(x, key, one_hot, mask, bias).mean(dim=1)

    def _keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, D) memory -> two (B, H, N, A/H)."""
        both = self.key_value(memory).unflatten(-1, (2, self.num_heads, -1))
        return both.permute(2, 0, 3, 1, 4).unbind()

    def _attend(
        self,
        x: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor,
        bias: Bias | None,
    ) -> Tensor:
        """(B, H, Q, V) means of (B, H, N, V) values, slice by slice."""
        query = self.query(x).unflatten(-1, (self.num_heads, -1))
        query = query.transpose(1, 2)  # (B, H, Q, A/H)
        batch, queries, length = mask.shape
        step = max(1, MAX_SCORES // max(1, batch * self.num_heads * length))
        parts = []
        for start in range(0, max(1, queries), step):
            # a traced slice has a fixed end: none where one is enough
            whole = step >= queries
            rows = slice(None) if whole else slice(start, start + step)
            if bias is None:
                open_or_bias = mask[:, None, rows]  # one for all heads
            else:
                open_or_bias = bias(rows).to(query.dtype)
            parts.append(
                F.scaled_dot_product_attention(
                    query[:, :, rows], key, value, attn_mask=open_or_bias
                )
            )
        return torch.cat(parts, dim=2)
