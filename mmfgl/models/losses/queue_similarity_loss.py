"""Global distillation: images are told apart as the teacher tells them.

Shape shorthand: B images, G images of all ranks, Q queue length, E width.
"""

import torch
from mmengine.dist import all_gather
from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.models.losses.similarity_kl import similarity_kl
from mmfgl.registry import MODELS


@MODELS.register_module()
class QueueSimilarityLoss(BaseModule):
    """Divergence of an image's similarities to a queue of teacher embeddings.

    The queue is the pseudo-classifier of a distillation without labels, as
    LightlyTrain describes its distillation v1 and v3 (docs.lightly.ai): the
    teacher's embeddings of the last Q images of all ranks, this batch
    included. It is a buffer, equal on all ranks.

    Args:
        channels: Width E of the embeddings.
        queue_len: Length Q of the queue.
        temperature: Of the similarities.
        loss_weight: Weight of the loss.
    """

    def __init__(
        self,
        channels: int,
        queue_len: int = 4096,
        temperature: float = 0.07,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.loss_weight = loss_weight
        self.register_buffer('queue', torch.zeros(queue_len, channels))
        # embeddings ever put in, which says what is next and what is filled
        self.register_buffer('count', torch.zeros((), dtype=torch.long))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Mean divergence of a batch; its teacher embeddings join the queue.

        Args:
            student: (B, E) embeddings.
            teacher: (B, E) embeddings of the same images, without gradient.

        Returns:
            Scalar fp32 loss.
        """
        if self.training:
            self.enqueue(teacher)
        ranks = torch.arange(len(self.queue), device=self.queue.device)
        losses = similarity_kl(
            student,
            teacher,
            self.queue,
            self.temperature,
            valid=ranks < self.count.clamp(min=1),
        )
        return self.loss_weight * losses.mean()

    @torch.no_grad()
    def enqueue(self, teacher: Tensor) -> None:
        """Let the (B, E) embeddings of every rank take the oldest places."""
        new = torch.cat(all_gather(teacher.float().contiguous()))  # (G, E)
        new = new[-len(self.queue) :]
        places = self.count + torch.arange(len(new), device=new.device)
        self.queue[places % len(self.queue)] = new
        self.count += len(new)
