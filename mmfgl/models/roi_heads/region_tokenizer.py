"""Tokenizer: RoI features to one token a region."""

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionTokenizer(BaseModule):
    """Turn (R, C, S, S) RoI features into (R, D) region tokens.

    A 1x1 convolution squeezes the channels, then one linear layer reads all
    S x S cells, so the layout inside the box is kept at a fraction of the
    cost of a two-layer fully connected head (C=256, S=7, D=256, 64 squeezed
    channels: 1.6 against 13.9 million multiply-adds a RoI). The position
    embedding of the box is separate, because a masked token loses its content
    but keeps its place.

    Args:
        in_channels: Channels C of the RoI features.
        roi_feat_size: Side S of the RoI features in cells.
        embed_dims: Token width D.
        squeeze_channels: Channels after the 1x1 convolution.
        position_embedding: Config of the position embedding of boxes.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        in_channels: int = 256,
        roi_feat_size: int = 7,
        embed_dims: int = 256,
        squeeze_channels: int = 64,
        position_embedding: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        self.embed_dims = embed_dims
        self.squeeze = nn.Conv2d(in_channels, squeeze_channels, 1)
        self.act = nn.ReLU(inplace=True)
        self.project = nn.Linear(
            squeeze_channels * roi_feat_size**2, embed_dims
        )
        self.norm = nn.LayerNorm(embed_dims)
        self.position = MODELS.build(
            position_embedding
            or dict(type='mmfgl.BoxPositionEmbedding', embed_dims=embed_dims)
        )

    def forward(self, roi_feats: Tensor) -> Tensor:
        """Tokenize the content of regions.

        Args:
            roi_feats: (R, C, S, S) RoI features.

        Returns:
            (R, D) tokens without position embedding.
        """
        return self.read(self.squeeze(roi_feats))

    def read(self, squeezed: Tensor) -> Tensor:
        """Tokenize features that :attr:`squeeze` has gone over already.

        Args:
            squeezed: (R, c, S, S) squeezed RoI features.

        Returns:
            (R, D) tokens without position embedding.
        """
        return self.norm(self.project(self.act(squeezed).flatten(1)))

    def embed_position(self, boxes: Tensor) -> Tensor:
        """Embed the boxes of regions.

        Args:
            boxes: (..., 4) boxes normalised by the image.

        Returns:
            (..., D) position embeddings.
        """
        return self.position(boxes)
