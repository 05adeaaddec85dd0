"""The teacher: an exponential moving average of the student's modules."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class EMATeacher(nn.Module):
    """Moving average of a student's modules, under the same names.

    Parameters and BatchNorm statistics are both averaged and the teacher runs
    in evaluation mode, so its targets do not depend on the batch's make-up
    (EMAN, arXiv 2101.08482). ``momentum`` is the share of the *old* weights
    that is kept, as papers write it: ``teacher = m * teacher + (1 - m) *
    student`` (MMEngine's EMA momentum is ``1 - m``).

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

    def start(self, student: nn.Module) -> None:
        """Copy the student unless the teacher has its own weights already.

        Args:
            student: The model given at construction.
        """
        if not self.started:
            for old, new in self._pairs(student):
                old.copy_(new)
            self.started.fill_(True)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Move the teacher towards the student, buffers included.

        Args:
            student: The model given at construction.
            momentum: Share of the old weights that is kept, in [0, 1].

        Raises:
            ValueError: If ``momentum`` is out of range.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f'momentum must lie in [0, 1], got {momentum}')
        for old, new in self._pairs(student):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), 1 - momentum)
            else:
                old.copy_(new)

    def _pairs(
        self, student: nn.Module
    ) -> Iterable[tuple[Tensor, Tensor]]:
        """Matching tensors of teacher and student, buffers included."""
        for name in self.names:
            own = getattr(self, name.rpartition('.')[2])
            theirs = student.get_submodule(name).state_dict()
            for key, tensor in own.state_dict().items():
                yield tensor, theirs[key]
