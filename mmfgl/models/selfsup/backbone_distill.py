"""Distillation of a frozen model into a backbone: what users pick instead.

Shape shorthand: B images, V views, C channels of the backbone's last map, E
of the teacher's.
"""

import torch
import torch.nn.functional as F
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmfgl.models.losses import PatchSimilarityLoss, QueueSimilarityLoss
from mmfgl.registry import MODELS


@MODELS.register_module()
class BackboneDistill(BaseSelfSupervisor):
    """Distil a frozen teacher into a backbone alone.

    The rival of :class:`ReToD`, written from the public description of
    LightlyTrain's distillation v3 (docs.lightly.ai): student and teacher see
    the same view; the student's last map and its mean, each linearly projected
    to the teacher's width, are to choose as the teacher's do: the mean among
    a queue of the teacher's means, a patch among the teacher's patches of the
    same image. Neck and heads of a detector stay random.

    Args:
        backbone: Config of the backbone.
        in_channels: Channels of its last map.
        teacher: Config of :class:`FrozenTeacher`; its last map counts.
        data_preprocessor: Config of the data preprocessor, with ``mean``,
            ``std`` and ``bgr_to_rgb``.
        queue_len: Embeddings in the queue.
        temperature: Of both losses.
        local_weight: Weight of the loss over patches, beside 1 of that over
            images.
        init_cfg: Initialisation config of MMEngine.
    """

    def __init__(
        self,
        backbone: dict,
        in_channels: int,
        teacher: dict,
        data_preprocessor: dict,
        queue_len: int = 4096,
        temperature: float = 0.07,
        local_weight: float = 1.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            target_generator=teacher,
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.target_generator.match(data_preprocessor)
        channels = self.target_generator.out_channels[-1]
        self.global_projector = nn.Linear(in_channels, channels)
        self.local_projector = nn.Conv2d(in_channels, channels, 1)
        self.global_loss = QueueSimilarityLoss(
            channels, queue_len, temperature
        )
        self.local_loss = PatchSimilarityLoss(temperature, local_weight)

    def loss(
        self, inputs: list[Tensor], data_samples: list[DataSample]
    ) -> dict[str, Tensor]:
        """Losses of a batch of views.

        Args:
            inputs: V tensors (B, 3, H, W), one a view.
            data_samples: Not read.

        Returns:
            ``loss_global`` and ``loss_local``.
        """
        views = torch.cat(inputs)  # (V B, 3, H, W)
        target = self.target_generator(views)[-1].float()  # (V B, E, h, w)
        feats = self.backbone(views)[-1]  # (V B, C, H, W)
        image = self.global_projector(feats.mean(dim=(2, 3)))
        patches = self.local_projector(feats).float()
        if patches.shape != target.shape:
            size = target.shape[-2:]
            patches = F.interpolate(patches, size, mode='bilinear')
        return dict(
            loss_global=self.global_loss(image, target.mean(dim=(2, 3))),
            loss_local=self.local_loss(patches, target),
        )
