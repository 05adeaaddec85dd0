"""Tokenizer: RoI features to one token a region."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.models.layers import BoxPositionEmbedding
from mmfgl.registry import MODELS

HIDDEN_CHANNELS = 1024


@MODELS.register_module()
class RegionTokenizer(BaseModule):
    """Turn (R, C, S, S) RoI features into (R, D) region tokens.

    A 1x1 convolution squeezes the channels, then two linear layers read all
    S x S cells, so the layout inside the box is kept at a third of the cost
    of a two-layer fully connected head (C=256, S=7, D=512, 64 squeezed
    channels, 1024 hidden: 4.5 against 13.9 million multiply-adds a RoI). The
    position embedding of the box is separate, because a masked token loses
    its content but keeps its position.

    The squeeze is linear and starts orthogonal: together with the hidden
    layer it is one linear map of limited rank. With a ReLU between the two,
    classes were learnt much more slowly (seen on aquarium photographs, in a
    run whose result was not kept). Tokens are not normalised; the blocks of
    the Transformer normalise what they read.

    Args:
        in_channels: Channels C of the RoI features.
        roi_feat_size: Side S of the RoI features in cells.
        embed_dims: Token width D.
        squeeze_channels: Channels after the 1x1 convolution; ``None`` leaves
            it out, for features that are narrow already.
    """

    def __init__(
        self,
        in_channels: int = 256,
        roi_feat_size: int = 7,
        embed_dims: int = 256,
        squeeze_channels: int | None = 64,
    ) -> None:
        super().__init__()
        self.squeeze = None
        if squeeze_channels is not None:
            self.squeeze = nn.Conv2d(in_channels, squeeze_channels, 1)
            nn.init.orthogonal_(self.squeeze.weight)
            nn.init.zeros_(self.squeeze.bias)
        self.act = nn.ReLU(inplace=True)
        self.hidden = nn.Linear(
            (squeeze_channels or in_channels) * roi_feat_size**2,
            HIDDEN_CHANNELS,
        )
        self.project = nn.Linear(HIDDEN_CHANNELS, embed_dims)
        for layer in (self.hidden, self.project):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.position = BoxPositionEmbedding(embed_dims)

    def forward(self, roi_feats: Tensor) -> Tensor:
        """(R, C, S, S) RoI features -> (R, D) tokens without position."""
        if self.squeeze is not None:
            roi_feats = self.squeeze(roi_feats)
        return self.read(roi_feats)

    def read(self, squeezed: Tensor) -> Tensor:
        """Tokenize features that :attr:`squeeze` has gone over already.

        Args:
            squeezed: (R, c, S, S) squeezed RoI features.

        Returns:
            (R, D) tokens without position embedding.
        """
        x = self.act(self.hidden(squeezed.flatten(1)))
        return self.act(self.project(x))

    def embed_position(self, boxes: Tensor) -> Tensor:
        """(..., 4) boxes normalised by the image -> (..., D) embeddings."""
        return self.position(boxes)
