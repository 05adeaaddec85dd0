"""Local distillation: patches are told apart as the teacher tells them.

Shape shorthand: B images, E width, P = H W patches of an image.
"""

from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.losses.similarity_kl import similarity_kl
from mmfgl.registry import MODELS


@MODELS.register_module()
class PatchSimilarityLoss(BaseModule):
    """Divergence of a patch's similarities to the teacher's patches.

    The classes of each patch are the teacher's patches of the same image, as
    the queue's embeddings are those of an image in
    :class:`QueueSimilarityLoss`.

    Args:
        temperature: Of the similarities.
        loss_weight: Weight of the loss.
    """

    def __init__(
        self, temperature: float = 0.07, loss_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean divergence over the patches of a batch.

        Args:
            student: (B, E, H, W) map.
            teacher: (B, E, H, W) map of the same views, without gradient.

        Returns:
            Scalar fp32 loss.
        """
        own = student.flatten(2).transpose(1, 2)  # (B, P, E)
        target = teacher.flatten(2).transpose(1, 2)
        losses = similarity_kl(own, target, target, self.temperature)
        return self.loss_weight * losses.mean()
