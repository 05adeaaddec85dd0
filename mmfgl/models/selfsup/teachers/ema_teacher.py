"""The EMA teacher: a moving average of the student's modules."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmfgl.registry import MODELS


@MODELS.register_module()
class EMATeacher(nn.Module):
    """Moving average of a student's modules, under the same names.

    It is the ``target_generator`` of :class:`ReToD`, runs in evaluation mode,
    so that its targets do not depend on the batch's make-up (after EMAN,
    arXiv 2101.08482), and takes BatchNorm statistics over from the student as
    they are: they are a moving average already.

    The first batch starts from the student's weights, whatever checkpoint
    they came from; a resumed checkpoint carries the teacher's own.

    Args:
        student: Model whose modules to average.
        modules: Dotted names of those modules, e.g. ``'backbone'``.
    """

    def __init__(self, student: nn.Module, modules: Iterable[str]) -> None:
        super().__init__()
        self.names = tuple(modules)
        for name in self.names:
            module = copy.deepcopy(student.get_submodule(name))
            self.add_module(name.rpartition('.')[2], module)
        self.requires_grad_(False)
        self.register_buffer('started', torch.tensor(False))
        self.eval()

    def train(self, mode: bool = True) -> 'EMATeacher':
        """Stay in evaluation mode, whatever ``mode`` says."""
        return super().train(False)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Pyramid levels (B, C, H_l, W_l) of (B, 3, H, W) views."""
        feats = self.backbone(inputs)
        return self.neck(feats) if 'neck' in self.names else feats

    @torch.no_grad()
    def start(self, student: nn.Module) -> None:
        """Copy the student unless the teacher has its own weights already."""
        if not self.started:
            for old, new in self._pairs(student):
                old.copy_(new)
            self.started.fill_(True)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move the weights towards the student's and copy its buffers.

        Args:
            student: The model given at construction.
            momentum: Share of the *old* weights that is kept, in [0, 1], as
                papers write it (MMEngine's EMA momentum is one minus it).

        Raises:
            ValueError: If ``momentum`` is out of range.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum must lie in [0, 1], got {momentum}')
        for old, new in self._pairs(student):
            if isinstance(new, nn.Parameter):
                old.lerp_(new, 1 - momentum)
            else:
                old.copy_(new)

    def _pairs(self, student: nn.Module) -> Iterable[tuple[Tensor, Tensor]]:
        """Matching parameters and buffers of teacher and student."""
        for name in self.names:
            own = getattr(self, name.rpartition('.')[2])
            theirs = student.get_submodule(name).state_dict(keep_vars=True)
            for key, tensor in own.state_dict().items():
                yield tensor, theirs[key]
