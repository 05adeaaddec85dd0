"""Prototypes: what the EMA teacher says about a region.

Shape shorthand: B views, N regions, D token width, K prototypes.
"""

from mmengine.model import BaseModule
from torch import Tensor

from mmfgl.registry import MODELS


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """Projector to prototypes, and the teacher's targets over them.

    Args:
        projector: Config of the projector, e.g. :class:`RegionProjector`.
        targets: Config of :class:`RegionTargets`, which turns the teacher's
            logits into distributions.
    """

    def __init__(self, projector: dict, targets: dict) -> None:
        super().__init__()
        self.projector = MODELS.build(projector)
        self.targets = MODELS.build(
            targets,
            default_args=dict(num_prototypes=self.projector.num_prototypes),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, K) logits of (B, N, D) region tokens."""
        return self.projector(tokens)
