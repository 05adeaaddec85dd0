"""The EMA teacher: a moving average of the student's modules."""

import copy
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmfgl.registry import MODELS
from mmfgl.utils.host_value import HostValue

Pairs = list[tuple[Tensor, Tensor]]


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
        self._started = HostValue()
        self._seen: list[tuple[dict, str, object]] = []
        self._found: tuple[Pairs, Pairs] = [], []
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
        if not self._started.get(self.started):
            weights, buffers = self._pairs(student)
            for old, new in weights + buffers:
                old.copy_(new)
            self._started.set(self.started, True)

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
        weights, buffers = self._pairs(student)
        # all tensors of a kind in one kernel
        for old, new in _by_dtype(weights):
            torch._foreach_lerp_(old, new, 1 - momentum)
        for old, new in _by_dtype(buffers):
            torch._foreach_copy_(old, new)

    def _pairs(self, student: nn.Module) -> tuple[Pairs, Pairs]:
        """Matching parameters, and buffers, of teacher and student."""
        # remembered, but not once a module was converted (to SyncBN, say) or
        # a tensor replaced: such pairs are dead
        if self._seen and all(d.get(k) is v for d, k, v in self._seen):
            return self._found
        weights, buffers, seen = [], [], []
        for name in self.names:
            own = getattr(self, name.rpartition('.')[2])
            theirs = student.get_submodule(name)
            seen.append((vars(self)['_modules'], name.rpartition('.')[2], own))
            parent = student.get_submodule(name.rpartition('.')[0])
            seen.append((parent._modules, name.rpartition('.')[2], theirs))
            pairs = zip(own.modules(), theirs.modules(), strict=True)
            for old, new in pairs:
                weights += _matches(old._parameters, new._parameters)
                buffers += _matches(old._buffers, new._buffers)
                for module in (old, new):
                    for part in ('_modules', '_parameters', '_buffers'):
                        kept = getattr(module, part)
                        seen += [(kept, key, kept[key]) for key in kept]
        self._seen, self._found = seen, (weights, buffers)
        return self._found

    def __deepcopy__(self, memo: dict) -> 'EMATeacher':
        """A copy remembers no pairs: they name the original's student."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        state = dict(vars(self), _seen=[], _found=([], []))
        vars(copied).update(copy.deepcopy(state, memo))
        return copied


def _matches(old: dict, new: dict) -> Pairs:
    """Tensors under the same names."""
    return [(old[key], new[key]) for key in old if old[key] is not None]


def _by_dtype(pairs: Pairs) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The two lists of each dtype: kernels over many tensors want one."""
    groups = defaultdict(lambda: ([], []))
    for old, new in pairs:
        groups[old.dtype][0].append(old)
        groups[old.dtype][1].append(new)
    return list(groups.values())
