"""Transformer encoder and decoder over region tokens.

Shape shorthand: B images, N candidates, Q queries, D token width, H heads.
"""

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS


class MaskedAttention(BaseModule):
    """Multi-head attention of queries to a memory through a mask.

    The output projection starts at zero, so that a block starts as the
    identity and an untrained Transformer does not disturb its tokens.

    Args:
        embed_dims: Token width D.
        num_heads: Number of heads H, a divisor of D.
    """

    def __init__(self, embed_dims: int, num_heads: int) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(
                f'embed_dims ({embed_dims}) must be a multiple of num_heads '
                f'({num_heads})'
            )
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dims, embed_dims)
        self.key_value = nn.Linear(embed_dims, 2 * embed_dims)
        self.out = nn.Linear(embed_dims, embed_dims)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Attend from ``x`` to ``memory``.

        Args:
            x: (B, Q, D) queries.
            memory: (B, N, D) memory.
            mask: (B, Q, N) bool, ``True`` = open.

        Returns:
            (B, Q, D) attention output (without the residual).
        """
        query = self._split_heads(self.query(x))  # (B, H, Q, D/H)
        key, value = self.key_value(memory).chunk(2, dim=-1)
        out = F.scaled_dot_product_attention(
            query,
            self._split_heads(key),
            self._split_heads(value),
            attn_mask=mask.unsqueeze(1),  # one mask for all heads
        )
        return self.out(out.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, D / H)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class RegionBlock(BaseModule):
    """Pre-norm attention + feed-forward block, for encoder and decoder.

    Args:
        embed_dims: Token width D.
        num_heads: Number of heads.
        ffn_ratio: Width of the feed-forward layer over D.
    """

    def __init__(
        self, embed_dims: int, num_heads: int, ffn_ratio: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attention = MaskedAttention(embed_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = FFN(
            embed_dims,
            int(embed_dims * ffn_ratio),
            act_cfg=dict(type='GELU'),
        )
        last = self.ffn.layers[1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, x: Tensor, mask: Tensor, memory: Tensor | None = None
    ) -> Tensor:
        """Run the block; without ``memory`` it is self-attention.

        Args:
            x: (B, Q, D) tokens.
            mask: (B, Q, N) bool, ``True`` = open.
            memory: (B, N, D) tokens to read. Defaults to ``x`` itself.

        Returns:
            (B, Q, D) tokens.
        """
        normed = self.norm1(x)
        source = normed if memory is None else self.norm1(memory)
        x = x + self.attention(normed, source, mask)
        return self.ffn(self.norm2(x), identity=x)


@MODELS.register_module()
class RegionTransformer(BaseModule):
    """Encoder over the candidates of an image, decoder for its targets.

    The same module, under the same name, is pretrained by ReToD and used by
    the FGL RoI head. Position embeddings are part of the tokens.

    Args:
        embed_dims: Token width D.
        num_heads: Number of attention heads.
        num_encoder_layers: Encoder blocks; 0 makes :meth:`encode` the
            identity.
        num_decoder_layers: Decoder blocks; 0 makes :meth:`decode` return the
            queries.
        ffn_ratio: Width of the feed-forward layers over D.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_encoder_layers: int = 1,
        num_decoder_layers: int = 1,
        ffn_ratio: float = 2.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims

        def blocks(depth: int) -> nn.ModuleList:
            return nn.ModuleList(
                RegionBlock(embed_dims, num_heads, ffn_ratio)
                for _ in range(depth)
            )

        self.encoder = blocks(num_encoder_layers)
        self.decoder = blocks(num_decoder_layers)

    def encode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Let the candidates of each image read each other.

        Args:
            tokens: (B, N, D) region tokens with their position embedding.
            mask: (B, N, N) bool attention mask, ``True`` = open.

        Returns:
            (B, N, D) encoded tokens.
        """
        for block in self.encoder:
            tokens = block(tokens, mask)
        return tokens

    def decode(self, queries: Tensor, memory: Tensor, mask: Tensor) -> Tensor:
        """Let the queries read the encoded candidates.

        Args:
            queries: (B, Q, D) tokens of the important targets.
            memory: (B, N, D) encoded candidates.
            mask: (B, Q, N) bool attention mask, ``True`` = open.

        Returns:
            (B, Q, D) target embeddings.
        """
        for block in self.decoder:
            queries = block(queries, mask, memory)
        return queries
