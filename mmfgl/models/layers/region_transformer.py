"""Transformer encoder and decoder over region tokens.

Shape shorthand: B images, N candidates, Q queries, D token width, H heads.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from mmcv.cnn.bricks.transformer import FFN
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.layers.masked_attention import GeometryBias, MaskedAttention
from mmfgl.registry import MODELS

Bias = Callable[[slice], Tensor]


class RegionBlock(BaseModule):
    """Pre-norm attention + feed-forward block, for encoder and decoder.

    Arguments as in :class:`RegionTransformer`.
    """

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
        """(B, Q, D) tokens -> (B, Q, D) tokens; see :class:`MaskedAttention`.

        Without ``memory`` (B, N, D) it is self-attention.
        """
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
        num_encoder_layers: Encoder blocks; 0 makes :meth:`encode` the
            identity.
        num_decoder_layers: Decoder blocks; 0 makes the targets' encoded
            tokens the answer.
        ffn_ratio: Width of the feed-forward layers over D.
        attention_dims: Width of queries, keys and values, D by default; see
            :class:`MaskedAttention`.
        geometry_bias: Add a learnable log-geometry bias to all attention
            scores (:class:`GeometryBias`, one for all blocks).
        init_cfg: Initialisation config of MMEngine.

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
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims

        options = embed_dims, num_heads, ffn_ratio, attention_dims
        self.encoder = nn.ModuleList(
            RegionBlock(*options) for _ in range(num_encoder_layers)
        )
        self.decoder = nn.ModuleList(
            RegionBlock(*options) for _ in range(num_decoder_layers)
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
        """Encode the candidates and decode the targets of each image.

        Images never attend each other. Those with equal numbers of candidates
        and targets go through together; nothing is padded.

        Args:
            tokens: (N, D) tokens of each image.
            masks: (N, N) bool attention mask of each image, ``True`` = open.
            targets: (Q,) long, the rows of each image that are to be answered.
            boxes: (N, 4) candidates of each image, any one frame.

        Returns:
            One (Q, D) tensor of target embeddings an image.
        """
        groups = defaultdict(list)
        for index, (token, target) in enumerate(
            zip(tokens, targets, strict=True)
        ):
            groups[len(token), len(target)].append(index)
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

    def encode(
        self, tokens: Tensor, mask: Tensor, boxes: Tensor | None = None
    ) -> Tensor:
        """Let the candidates of each image read each other.

        Args:
            tokens: (B, N, D) region tokens with their position embedding.
            mask: (B, N, N) bool attention mask, ``True`` = open.
            boxes: (B, N, 4) boxes of the tokens, any one frame; needed for
                ``geometry_bias``.

        Returns:
            (B, N, D) encoded tokens.
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
        boxes: Tensor | None = None,
        memory_boxes: Tensor | None = None,
    ) -> Tensor:
        """Let the queries read the encoded candidates.

        Args:
            queries: (B, Q, D) tokens of the important targets.
            memory: (B, N, D) encoded candidates.
            mask: (B, Q, N) bool attention mask, ``True`` = open.
            boxes: (B, Q, 4) boxes of the queries, for ``geometry_bias``.
            memory_boxes: (B, N, 4) boxes of the memory, the same frame.

        Returns:
            (B, Q, D) target embeddings.
        """
        bias = self._bias(mask, boxes, memory_boxes)
        for block in self.decoder:
            queries = block(queries, mask, memory, bias)
        return queries

    def _bias(
        self, mask: Tensor, boxes: Tensor | None, memory_boxes: Tensor | None
    ) -> Bias | None:
        """What gives the bias of a slice of queries, or ``None``."""
        if self.geometry is None:
            return None
        if boxes is None or memory_boxes is None:
            raise ValueError(
                'geometry_bias compares boxes, but encode() or decode() was '
                'called without them'
            )

        def bias(rows: slice) -> Tensor:
            return self.geometry(mask[:, rows], boxes[:, rows], memory_boxes)

        return bias
