"""Takes back what a forward pass did to buffers."""

import operator
from collections import defaultdict

import torch
from torch import Tensor, nn


class TrainedBuffers:
    """The buffers that a forward pass may change, to take it back.

    Those of modules in evaluation mode, a teacher's above all, stand still.
    The copies are made once and then written over, all of a dtype at a time.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules: list[nn.Module] | None = None
        self._live: list[Tensor] = []
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []

    def save(self) -> None:
        """Remember their values."""
        if self._modules is None:  # not before the model is converted
            modules = self.model.modules()
            self._modules = [m for m in modules if m._buffers]
        live = [
            buffer
            for module in self._modules
            if module.training
            for buffer in module._buffers.values()
            if buffer is not None
        ]
        same = len(live) == len(self._live)
        if same and all(map(operator.is_, live, self._live)):
            for buffers, copies in self._groups:
                torch._foreach_copy_(copies, buffers)
            return
        groups = defaultdict(list)
        for buffer in live:
            groups[buffer.device, buffer.dtype].append(buffer)
        self._live = live
        self._groups = [(g, [x.clone() for x in g]) for g in groups.values()]

    @torch.no_grad()
    def restore(self) -> None:
        """Give them the values of the last :meth:`save` again, in place."""
        for buffers, copies in self._groups:
            for buffer, copy in zip(buffers, copies, strict=True):
                buffer.copy_(copy)  # seen by HostValue
