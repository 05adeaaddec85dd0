"""ReToD's region encoder over the modules of mmdet's plain Faster R-CNN.

Shape shorthand: R RoIs, C channels, S RoI size, D token width.
"""

from collections.abc import Sequence

from mmdet.models.roi_heads import StandardRoIHead
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.registry import MODELS


class PlainTokenizer(BaseModule):
    """One linear layer from a box head's features to region tokens.

    It stands where the FGL detector has its own tokenizer; plain Faster R-CNN
    has no module of this name, so it serves the pretraining alone.

    Args:
        in_channels: Width of the box head's fully connected layers.
        embed_dims: Token width D.
        position_embedding: Config of the position embedding of boxes.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        position_embedding: dict | None = None,
    ) -> None:
        super().__init__()
        self.embed_dims = embed_dims
        self.project = nn.Linear(in_channels, embed_dims)
        self.norm = nn.LayerNorm(embed_dims)
        self.position = MODELS.build(
            position_embedding
            or dict(type='mmfgl.BoxPositionEmbedding', embed_dims=embed_dims)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Tokenize the content of regions.

        Args:
            features: (R, F) features of the box head.

        Returns:
            (R, D) tokens without position embedding.
        """
        return self.norm(self.project(features))

    def embed_position(self, boxes: Tensor) -> Tensor:
        """Embed the boxes of regions.

        Args:
            boxes: (..., 4) boxes normalised by the image.

        Returns:
            (..., D) position embeddings.
        """
        return self.position(boxes)


@MODELS.register_module()
class PlainRegionHead(StandardRoIHead):
    """Region encoder for pretraining mmdet's *plain* Faster R-CNN.

    Region tokens are the output of the box head's shared layers, projected
    by one linear layer. ``bbox_head.`` and the parameter-free RoI extractor
    are those of :class:`mmdet.models.StandardRoIHead`, so ``backbone.``,
    ``neck.``, ``rpn_head.`` and ``roi_head.bbox_head.shared_fcs.`` of a
    checkpoint load into ``mmdet.FasterRCNN`` as they are. ``tokenizer.`` and
    ``transformer.`` serve the pretraining alone.

    Without ``train_cfg`` (no objectness training) nothing trains the box
    head's own branches: they are frozen.

    Args:
        bbox_roi_extractor: Config of the RoI extractor.
        bbox_head: Config of a box head with shared fully connected layers,
            e.g. ``Shared2FCBBoxHead``.
        transformer: Config of the region Transformer.
        attention: Band of the IoU attention mask: ``dict(low=, high=)``.
        position_embedding: Config of the position embedding of boxes.
        **kwargs: Arguments of :class:`mmdet.models.StandardRoIHead`.

    Raises:
        ValueError: If the box head has no shared fully connected layer.
    """

    def __init__(
        self,
        bbox_roi_extractor: dict,
        bbox_head: dict,
        transformer: dict,
        attention: dict | None = None,
        position_embedding: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(
            bbox_roi_extractor=bbox_roi_extractor,
            bbox_head=bbox_head,
            **kwargs,
        )
        if not getattr(self.bbox_head, 'num_shared_fcs', 0):
            raise ValueError(
                'PlainRegionHead takes its tokens from the shared fully '
                'connected layers of the box head, which '
                f'{type(self.bbox_head).__name__} does not have: use '
                'Shared2FCBBoxHead'
            )
        self.transformer = MODELS.build(transformer)
        self.tokenizer = PlainTokenizer(
            self.bbox_head.fc_out_channels,
            self.transformer.embed_dims,
            position_embedding,
        )
        self.attention = dict(attention or {})
        if self.train_cfg is None:
            for name, param in self.bbox_head.named_parameters():
                if not name.startswith('shared_'):
                    param.requires_grad_(False)

    def region_tokens(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Tokens of RoIs, without position embedding.

        Args:
            feats: Pyramid levels, each (B, C, H_l, W_l).
            rois: (R, 5) rows (image index, x1, y1, x2, y2), network-input
                pixels.

        Returns:
            (R, D) tokens.
        """
        extractor = self.bbox_roi_extractor
        x = extractor(_poolable(feats[: extractor.num_inputs]), rois)
        head = self.bbox_head
        for conv in head.shared_convs:
            x = conv(x)
        if head.with_avg_pool:
            x = head.avg_pool(x)
        x = x.flatten(1)
        for layer in head.shared_fcs:
            x = head.relu(layer(x))
        return self.tokenizer(x)

    def _bbox_forward(self, x: Sequence[Tensor], rois: Tensor) -> dict:
        """Forward of the box branch; see :class:`StandardRoIHead`.

        Args:
            x: Pyramid levels.
            rois: (R, 5) RoIs.

        Returns:
            ``cls_score``, ``bbox_pred`` (fp32) and ``bbox_feats``.
        """
        results = super()._bbox_forward(_poolable(x), rois)
        return {key: value.float() for key, value in results.items()}


def _poolable(feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Features that mmcv's RoI operators read rightly.

    They know no bfloat16, and those for CPUs read channels-last memory in the
    wrong order.
    """
    return tuple(level.float().contiguous() for level in feats)
