"""Keeps NaN and infinity out of the weights, and says where they come from."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmdet.engine.hooks import MeanTeacherHook
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import EMAHook, Hook, ParamSchedulerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmfgl.engine.hooks.robust.trained_buffers import TrainedBuffers
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap

_FLAG = 'mmfgl_step_skipped'
# parents' hooks that move with each iteration
_FOLLOWERS = (ParamSchedulerHook, EMAHook, MeanTeacherHook)


class NonFiniteError(RuntimeError):
    """A loss or gradient was NaN or infinite."""


def step_was_skipped(runner: Runner) -> bool:
    """Whether this iteration's optimizer step was dropped.

    Hooks that follow the weights (a moving average, say) must then not move.
    """
    return runner.message_hub.runtime_info.get(_FLAG, False)


@dataclass
class _Batch:
    """One batch of a step, for the message if it goes wrong."""

    data: Any
    losses: dict[str, list[Tensor]]
    total: Tensor


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Skip a step whose loss or gradient is not finite.

    For pretraining and detection alike. Before the optimizer's step the total
    loss and the gradient are looked at, together. If either is NaN or
    infinite, a message names the losses, the parameters and the image files
    of the batch, and nothing moves: weights and optimizer state are not
    touched, buffers that the forward pass has changed (BatchNorm statistics,
    the centre of the targets, the state of a balancer, ...) go back to what
    they were, and teacher, averaged weights and learning rate stay.

    All ranks agree: the loss of one is enough. With gradient accumulation the
    whole step is dropped, but a learning rate that moves with every batch has
    moved in all but the last of its batches. With a gradient scaler (float16)
    a gradient that overflows is counted too, and the scaler lowers its scale
    as it would alone. Until the first step has succeeded the scaler may
    search for its scale: skips do not stop the run as long as the loss is
    finite, a gradient is infinite, and the scale falls and is at least 1.
    What is too large for float16 is infinite before it becomes NaN by
    further arithmetic, and mostly still is in some gradient; NaN alone is no
    overflow, and no scale mends it. A step costs an all-reduce of one
    number, its reading from a GPU, and a copy of the buffers of modules in
    training mode.

    Args:
        max_skips: Training stops when so many steps in a row were skipped;
            1 stops at the first.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_skips: int = 5) -> None:
        if max_skips < 1:
            raise ValueError(f'max_skips must be at least 1, got {max_skips}')
        self.max_skips = max_skips
        self.in_a_row = 0
        self.total = 0

    def before_train(self, runner: Runner) -> None:
        """Step between the model and its optimizer.

        Raises:
            TypeError: There are several optimizers.
        """
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper):
            raise TypeError(
                'NonFiniteGuardHook works with one optimizer, this run has a '
                f'{type(wrapper).__name__}: remove the hook'
            )
        self.runner, self.wrapper = runner, wrapper
        self.model = unwrap(runner.model)
        self._buffers = TrainedBuffers(self.model)
        self._kept_at = -1  # iteration before which they were kept
        self._window: list[_Batch] = []  # batches of the step under way
        self._data, self._losses = None, {}  # of the latest batch
        self._dropped = self._succeeded = self._searching = False
        self._handle = self.model.register_forward_hook(self._keep_losses)
        # OptimWrapper.update_params and .step of this one object, until
        # after_train; its class is left alone
        self._plain_update = wrapper.update_params
        self._plain_step = wrapper.step
        wrapper.update_params = self._update

        # keeps the marks that schedulers have put on the method
        step = functools.partial(self._step)
        wrapper.step = functools.update_wrapper(step, self._plain_step)
        # after_train_iter of the hooks of this run, likewise
        self._followers = [
            hook for hook in runner.hooks if isinstance(hook, _FOLLOWERS)
        ]
        for hook in self._followers:
            hook.after_train_iter = _unless_skipped(hook.after_train_iter)

    def after_train(self, runner: Runner) -> None:
        """Step out again."""
        self._handle.remove()
        del self.wrapper.update_params, self.wrapper.step
        for hook in self._followers:
            del hook.after_train_iter
        self._data, self._losses, self._buffers = None, {}, None

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember the batch and, before a step's first, the buffers."""
        runner.message_hub.update_info(_FLAG, False)
        self._data = data_batch
        if not self._window:
            self._buffers.save()
            self._kept_at = runner.iter

    def take_back(self) -> None:
        """Undo what an iteration that broke before its step did to buffers."""
        if self._buffers is not None and self._kept_at == self.runner.iter:
            self._buffers.restore()

    def _keep_losses(self, _: nn.Module, args: tuple, outputs: Any) -> None:
        """Keep the losses of the forward pass, for their names."""
        self._losses = {}
        for name, value in (
            outputs.items() if isinstance(outputs, dict) else ()
        ):
            if 'loss' in name:
                parts = value if isinstance(value, list | tuple) else [value]
                self._losses[name] = [part.detach() for part in parts]

    def _update(
        self,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """In place of ``OptimWrapper.update_params``."""
        batch = _Batch(self._data, self._losses, loss.detach())
        self._window.append(batch)
        self._plain_update(loss, step_kwargs, zero_kwargs)
        if not self.wrapper.should_update():
            return
        self._window.clear()
        if not self._dropped:
            self.in_a_row, self._succeeded = 0, True
            return
        self._dropped = False
        self._buffers.restore()
        self.in_a_row += 1
        self.total += 1
        hub = self.runner.message_hub
        hub.update_info(_FLAG, True)
        hub.update_scalar('train/skipped_steps', self.total)
        if self.in_a_row >= self.max_skips and not self._searching:
            raise NonFiniteError(
                f'{self.message}\nTraining stops: {self.in_a_row} steps in a '
                'row were skipped. The weights are those before them. Look at '
                'the named images and their boxes first; else lower the '
                'learning rate, lengthen its warm-up, clip gradients '
                '(optim_wrapper.clip_grad), or train without --amp.'
            )

    def _step(self, **kwargs: Any) -> None:
        """In place of ``OptimWrapper.step``."""
        losses = [batch.total for batch in self._window]
        grads = [
            param.grad
            for group in self.wrapper.param_groups
            for param in group['params']
            if param.grad is not None
        ]
        norms = torch._foreach_norm(grads, float('inf')) if grads else []
        values = torch.stack([x.float() for x in (*losses, *norms)])
        if _all_ranks(values):
            self._plain_step(**kwargs)
            return
        self._dropped = True
        # what a step would have moved; a gradient scaler has to move
        loss_is_finite = _all_ranks(values[: len(losses)])
        # before the step clips them, which makes NaN of infinity
        overflow = any(bool(grad.isinf().any()) for grad in grads)
        falls = self._lower_scale(values[len(losses) :], kwargs)
        searching = falls and overflow and loss_is_finite
        self._searching = searching and not self._succeeded
        self._report('gradient' if loss_is_finite else 'loss')

    def _lower_scale(self, norms: Tensor, kwargs: dict) -> bool:
        """Show a gradient scaler its overflow; whether it can do better."""
        scaler = getattr(self.wrapper, 'loss_scaler', None)
        if scaler is None or norms.isfinite().all():
            return False
        before = scaler.get_scale()
        self._plain_step(**kwargs)  # skips the optimizer by itself
        after = scaler.get_scale()
        return 1 <= after < before

    def _report(self, what: str) -> None:
        """Say what is wrong, on the main process."""
        message = ''
        bad = [
            text
            for batch in self._window
            for text in _values(batch.losses)
            if text[1]
        ]
        culprits = [text for text, _ in bad] or self._bad_gradients()
        if culprits:
            names = [
                name
                for batch in self._window
                for name in image_files(batch.data.get('data_samples'))
            ]
            images = ', '.join(names) or '(no img_path in the data)'
            message = f'{", ".join(culprits)}; images of the batch: {images}'
        messages = ' | '.join(filter(None, all_gather_object(message)))
        iteration = self.runner.iter + 1
        self.message = (
            f'{what} not finite in iteration {iteration}: {messages}'
        )
        self.runner.logger.warning(
            f'step skipped, nothing has moved: {self.message}'
        )

    def _bad_gradients(self) -> list[str]:
        """The first parameters with a bad gradient, and all losses."""
        bad = [
            name
            for name, param in self.model.named_parameters()
            if param.grad is not None and not torch.isfinite(param.grad).all()
        ]
        if not bad:
            return []
        more = f' and {len(bad) - 3} more' if len(bad) > 3 else ''
        losses = [text for text, _ in _values(self._window[-1].losses)]
        return [f'gradient of {", ".join(bad[:3])}{more}', *losses]


def _unless_skipped(method: Callable) -> Callable:
    """A hook's method, but not after a skipped step."""

    def after_train_iter(runner: Runner, *args: Any, **kwargs: Any) -> None:
        if not step_was_skipped(runner):
            method(runner, *args, **kwargs)

    return after_train_iter


def _values(losses: dict[str, list[Tensor]]) -> list[tuple[str, bool]]:
    """Names and values of losses, and whether they are not finite."""
    totals = {
        name: sum(float(part.mean()) for part in parts)
        for name, parts in losses.items()
    }
    return [
        (f'{name} = {total:.4g}', not math.isfinite(total))
        for name, total in totals.items()
    ]


def image_files(samples: Any) -> Iterator[str]:
    """Image files of data samples, however nested in lists and dicts."""
    if isinstance(samples, dict):
        samples = list(samples.values())
    if isinstance(samples, list | tuple):
        for sample in samples:
            yield from image_files(sample)
    elif getattr(samples, 'img_path', None) is not None:
        yield samples.img_path


def _all_ranks(values: Tensor) -> bool:
    """Whether all values of all ranks are finite."""
    bad = (~torch.isfinite(values).all()).float()
    all_reduce(bad, op='max')
    return not bad.item()
