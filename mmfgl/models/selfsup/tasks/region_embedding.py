"""Region embedding: what the region teacher sees in a region's crop.

Shape shorthand: B images, V views, R regions of a batch, D token width, E
width of the teacher's embeddings.
"""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmfgl.datasets.region_file import RegionFile, read_region_file
from mmfgl.models.balancers import TaskLoss
from mmfgl.models.layers import readable_levels
from mmfgl.models.losses import RegionEmbeddingLoss, RegionRelationLoss
from mmfgl.models.roi_heads import FGLRoIHead
from mmfgl.models.selfsup.region_encoding import (
    has_shared_features,
    shared_features,
)
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.base import PretrainingTask
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionEmbeddingTask(PretrainingTask):
    """Predict the region teacher's embedding of a region from its token.

    The targets are in the region file, which ``propose_regions.py --teacher``
    writes: no teacher runs in training, and flips, scales and colours of a
    view stay free. The tokens (of FGL before the region Transformer, else the
    output of the box head's shared layers) are those of the pseudo objects
    and of the regions that have a row in the file. The relational term
    compares tokens after their LayerNorm with each other, of all ranks.

    Args:
        region_file: The file that the proposers of the views read.
        in_channels: Token width D of the detector.
        out_channels: Width E of the embeddings in the file.
        hidden_channels: Width of the projector's hidden layer; the projector
            is dropped after the pretraining.
        temperature: Temperature of the relational term.
        loss_weight: Weight of the sum of cosine and relational term.
    """

    name = 'embed'

    def __init__(
        self,
        region_file: str,
        in_channels: int,
        out_channels: int = 128,
        hidden_channels: int = 512,
        temperature: float = 0.07,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.region_file = region_file
        self._regions: RegionFile | None = None
        self.loss_weight = loss_weight
        self.projector = EmbeddingProjector(
            in_channels, hidden_channels, out_channels
        )
        self.embedding_loss = RegionEmbeddingLoss()
        self.relation_loss = RegionRelationLoss(temperature)

    def check(self, model: nn.Module) -> None:
        """Make sure that there are region tokens of the right width."""
        head = model.roi_head
        width = self.projector.in_channels
        if isinstance(head, FGLRoIHead):
            own = head.transformer.embed_dims
        elif has_shared_features(head):
            own = head.bbox_head.shared_fcs[-1].out_features
        else:
            raise ValueError(
                'RegionEmbeddingTask reads region tokens: use '
                'mmfgl.FGLRoIHead, or a box head with shared fully connected '
                'layers such as Shared2FCBBoxHead'
            )
        if own != width:
            raise ValueError(
                f'RegionEmbeddingTask has in_channels={width}, but the '
                f'tokens of the detector are {own} wide'
            )

    def open_file(self) -> RegionFile:
        """The region file, as it was when it was first opened.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it has no embeddings, or of another width.
        """
        if self._regions is not None:
            return self._regions
        regions = read_region_file(self.region_file)
        if regions.embeddings is None:
            raise ValueError(
                f'the region file {self.region_file!r} has no embeddings, '
                'which RegionEmbeddingTask learns: write it by '
                'propose_regions.py --teacher MODEL WEIGHTS'
            )
        width = regions.embeddings.shape[1]
        if width != self.projector.out_channels:
            raise ValueError(
                f'the embeddings in {self.region_file!r} are {width} wide: '
                f'set out_channels={width} of RegionEmbeddingTask'
            )
        self._regions = regions
        return regions

    def loss(self, context: TaskContext) -> TaskLoss:
        """Cosine and relational term, logged as ``embed/<part>``.

        Raises:
            KeyError: If the data hold no rows.
            ValueError: If the file does not fit, or lacks a row.
        """
        model = context.model
        rois, rows = rois_with_rows(context)
        target = self.targets(rows).to(rois.device)
        feats = context.feats
        if isinstance(model.roi_head, FGLRoIHead):
            feats = readable_levels(feats)
            tokens = model.roi_head.region_tokens(feats, rois)
        else:
            tokens = shared_features(model.roi_head, feats, rois)
        tokens, pred = self.projector(tokens)
        parts = dict(
            cosine=self.embedding_loss(pred, target),
            relation=self.relation_loss(tokens, target),
        )
        loss = TaskLoss(
            self.loss_weight * sum(parts.values()),
            loss_scale=self.loss_weight * len(parts),
        )
        # zero regions in every step: the proposers read another file
        parts['regions'] = target.new_tensor(len(target))
        for key, value in parts.items():
            loss.logs[f'{self.name}/{key}'] = value.detach()
        return loss

    def targets(self, rows: Tensor) -> Tensor:
        """(R, E) float32 embeddings of (R,) rows, of length 1.

        Raises:
            ValueError: If the file has no such row.
        """
        if not len(rows):
            return torch.zeros(0, self.projector.out_channels)
        regions, rows = self.open_file(), rows.cpu().numpy()
        if rows.max() >= len(regions.boxes):
            raise ValueError(
                f'row {rows.max()} of a region, but {self.region_file!r} has '
                f'{len(regions.boxes)}: the proposers of the views must read '
                'the same file'
            )
        return torch.from_numpy(regions.embed(rows))


class EmbeddingProjector(BaseModule):
    """LayerNorm, Linear, GELU, Linear: from tokens to embeddings.

    Args:
        in_channels: Token width D.
        hidden_channels: Width of the hidden layer.
        out_channels: Width E of the embeddings.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.norm = nn.LayerNorm(in_channels)
        self.layers = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, out_channels),
        )

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised tokens (R, D) and predictions (R, E) of (R, D) tokens."""
        tokens = self.norm(tokens)
        return tokens, self.layers(tokens)


def rois_with_rows(context: TaskContext) -> tuple[Tensor, Tensor]:
    """Objects and regions of all views that are in the region file.

    Returns:
        (R, 5) RoIs (view ``v * B + b``, x1, y1, x2, y2) in view pixels, and
        their (R,) rows.

    Raises:
        KeyError: If the data hold no rows.
    """
    samples = context.data_samples
    rois, rows = [], []
    for image, sample in enumerate(samples):
        if 'rows' not in sample and 'object_rows' not in sample:
            raise KeyError(
                'RegionEmbeddingTask looks regions up in the region file, but '
                "the data samples have no 'rows' and no 'object_rows'"
            )
        if 'object_rows' in sample:
            objects = sample.objects.float()
            views = objects[:, :1] * len(samples) + image
            rois.append(torch.cat([views, objects[:, 1:]], 1))
            rows.append(sample.object_rows)
        if 'rows' in sample:
            for view, boxes in enumerate(sample.boxes.float()):
                number = boxes.new_full((len(boxes), 1), 0)
                number += view * len(samples) + image
                rois.append(torch.cat([number, boxes], 1))
                rows.append(sample.rows)
    rois, rows = torch.cat(rois), torch.cat(rows)
    return rois[rows >= 0], rows[rows >= 0]
