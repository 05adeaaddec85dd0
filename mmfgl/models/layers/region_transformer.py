"""Transformer encoder and decoder over region tokens.

Shape shorthand: B images, N candidates, Q queries, D token width, H heads.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.layers.masked_attention import (
    Bias,
    GeometryBias,
    MaskedAttention,
)
from mmfgl.registry import MODELS


class RegionBlock(BaseModule):
    """Pre-norm attention + feed-forward, see :class:`RegionTransformer`."""

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        ffn_ratio: float,
        attention_dims: int | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attention = MaskedAttention(embed_dims, num_heads, attention_dims)
        self.norm2 = nn.LayerNorm(embed_dims)
        hidden = int(embed_dims * ffn_ratio)
        self.ffn = FFN(embed_dims, hidden, act_cfg=dict(type='GELU'))
        for param in self.ffn.layers[1].parameters():
            nn.init.zeros_(param)

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        memory: Tensor | None = None,
        bias: Bias | None = None,
    ) -> Tensor:
        """(B, Q, D) -> (B, Q, D) tokens; self-attention without ``memory``."""
        normed = self.norm1(x)
        source = normed if memory is None else self.norm1(memory)
        x = x + self.attention(normed, source, mask, bias)
        return self.ffn(self.norm2(x), identity=x)


@MODELS.register_module()
class RegionTransformer(BaseModule):
    """Encoder over the candidates of an image, decoder for its targets.

    Position embeddings are part of the tokens.

    Args:
        embed_dims: Token width D.
        num_heads: Number of attention heads H.
        num_encoder_layers: Encoder blocks, may be 0.
        num_decoder_layers: Decoder blocks; with 0 the encoded targets are
            the answer.
        ffn_ratio: Width of the feed-forward layers over D.
        attention_dims: See :class:`MaskedAttention`.
        geometry_bias: Add a :class:`GeometryBias`, one for all blocks, to the
            attention scores.

    Raises:
        ValueError: If ``geometry_bias`` has no block to act in.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_encoder_layers: int = 1,
        num_decoder_layers: int = 1,
        ffn_ratio: float = 2.0,
        attention_dims: int | None = None,
        geometry_bias: bool = False,
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        options = embed_dims, num_heads, ffn_ratio, attention_dims
        self.encoder, self.decoder = (
            nn.ModuleList(RegionBlock(*options) for _ in range(num_layers))
            for num_layers in (num_encoder_layers, num_decoder_layers)
        )
        if geometry_bias and not (num_encoder_layers or num_decoder_layers):
            raise ValueError(
                'geometry_bias needs at least one encoder or decoder layer'
            )
        self.geometry = GeometryBias(num_heads) if geometry_bias else None

    def forward(
        self,
        tokens: Sequence[Tensor],
        masks: Sequence[Tensor],
        targets: Sequence[Tensor],
        boxes: Sequence[Tensor],
    ) -> list[Tensor]:
        """Encode the candidates and decode the targets, image by image.

        Images with equal numbers of candidates and targets go through
        together; nothing is padded.

        Args:
            tokens: (N, D) tokens of each image.
            masks: (N, N) bool attention mask of each image, ``True`` = open.
            targets: (Q,) long, the rows of each image that are to be answered.
            boxes: (N, 4) candidates of each image, any one frame.

        Returns:
            One (Q, D) tensor of target embeddings an image.
        """
        groups = defaultdict(list)
        for index, target in enumerate(targets):
            groups[len(tokens[index]), len(target)].append(index)
        answers = {}
        for members in groups.values():
            parts = (
                torch.stack([values[i] for i in members])
                for values in (tokens, masks, targets, boxes)
            )
            answers.update(zip(members, self._answer(*parts), strict=True))
        return [answers[index] for index in range(len(tokens))]

    def _answer(
        self, tokens: Tensor, mask: Tensor, targets: Tensor, boxes: Tensor
    ) -> Tensor:
        """(B, Q, D) answers from B images stacked, see :meth:`forward`."""
        memory = self.encode(tokens, mask, boxes)
        queries = tokens if len(self.decoder) else memory
        if targets.shape[1] == tokens.shape[1]:  # in the order of candidates
            return self.decode(queries, memory, mask, boxes, boxes)
        queries, rows, asked = (
            values.gather(
                1, targets[..., None].expand(-1, -1, values.shape[-1])
            )
            for values in (queries, mask, boxes)
        )
        return self.decode(queries, memory, rows, asked, boxes)

    def encode(self, tokens: Tensor, mask: Tensor, boxes: Tensor) -> Tensor:
        """Let the candidates of each image read each other.

        Args:
            tokens: (B, N, D) region tokens with their position embedding.
            mask: (B, N, N) bool attention mask, ``True`` = open.
            boxes: (B, N, 4) boxes of the tokens, any one frame.
        """
        bias = self._bias(mask, boxes, boxes)
        for block in self.encoder:
            tokens = block(tokens, mask, bias=bias)
        return tokens

    def decode(
        self,
        queries: Tensor,
        memory: Tensor,
        mask: Tensor,
        boxes: Tensor,
        memory_boxes: Tensor,
    ) -> Tensor:
        """Let the queries read the encoded candidates.

        Args:
            queries: (B, Q, D) tokens of the important targets.
            memory: (B, N, D) encoded candidates.
            mask: (B, Q, N) bool attention mask, ``True`` = open.
            boxes: (B, Q, 4) boxes of the queries, any one frame.
            memory_boxes: (B, N, 4) boxes of the memory, the same frame.
        """
        bias = self._bias(mask, boxes, memory_boxes)
        for block in self.decoder:
            queries = block(queries, mask, memory, bias)
        return queries

    def _bias(
        self, mask: Tensor, boxes: Tensor, memory_boxes: Tensor
    ) -> Bias | None:
        """The bias of the attention scores, or ``None``."""
        if self.geometry is None:
            return None
        return lambda rows: self.geometry(
            mask[:, rows], boxes[:, rows], memory_boxes
        )
