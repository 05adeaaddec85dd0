"""Keeps NaN and infinity out of the weights, and says where they come from."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn

from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap

_FLAG = 'mmfgl_step_skipped'


class NonFiniteError(RuntimeError):
    """A loss or gradient was NaN or infinite."""


def step_was_skipped(runner: Runner) -> bool:
    """Whether this iteration's optimizer step was dropped.

    Hooks that follow the weights (a moving average, say) must then not move.
    """
    return runner.message_hub.runtime_info.get(_FLAG, False)


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Skip a step whose loss or gradient is not finite.

    For pretraining and detection alike. The total loss is looked at before
    the backward pass, the gradient before the optimizer's step. If either is
    NaN or infinite, a message names the losses (or the parameters) and the
    image files of the batch, and nothing moves: weights and optimizer state
    are not touched, buffers that the forward pass has changed (BatchNorm
    statistics, the centre of the targets, ...) go back to what they were,
    and the teacher stays.

    All ranks agree: the loss of one is enough. With gradient accumulation the
    whole step is dropped. With a gradient scaler (float16), gradients are
    left to the scaler, which skips and rescales by itself. A step costs an
    all-reduce of one number, its reading from a GPU, and a copy of the
    model's buffers.

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
        self._outputs: Any = None
        self._dropping, self._window_open = False, False
        self._handle = self.model.register_forward_hook(self._keep_losses)
        # OptimWrapper.update_params and .step of this one object, until
        # after_train; its class is left alone
        self._plain_update = wrapper.update_params
        self._plain_step = wrapper.step
        wrapper.update_params = self._update

        # keeps the marks that schedulers have put on the method
        step = functools.partial(self._step)
        wrapper.step = functools.update_wrapper(step, self._plain_step)

    def after_train(self, runner: Runner) -> None:
        """Step out again."""
        self._handle.remove()
        del self.wrapper.update_params, self.wrapper.step
        self._outputs = self._batch = self._buffers = None

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember the batch and, before a step's first, the buffers."""
        self._batch = data_batch
        runner.message_hub.update_info(_FLAG, False)
        if not self._window_open:
            self._dropping, self._window_open = False, True
            self._buffers = {
                name: buffer.clone()
                for name, buffer in self.model.named_buffers()
            }

    def _keep_losses(self, _: nn.Module, args: tuple, outputs: Any) -> None:
        """Keep the losses of the forward pass, for their names."""
        self._outputs = outputs

    def _update(
        self,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """In place of ``OptimWrapper.update_params``."""
        if not self._dropping and not _all_ranks(loss.detach()):
            self._drop(self._bad_losses(), 'loss')
        if self._dropping:
            # OptimWrapper._inner_count: gradient accumulation goes on
            self.wrapper._inner_count += 1
        else:
            self._plain_update(loss, step_kwargs, zero_kwargs)
        if not self.wrapper.should_update():
            return
        self._window_open = False
        if not self._dropping:
            self.in_a_row = 0
            return
        self.wrapper.zero_grad(**(zero_kwargs or {}))
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(self._buffers[name])
        self.in_a_row += 1
        self.total += 1
        hub = self.runner.message_hub
        hub.update_info(_FLAG, True)
        hub.update_scalar('train/skipped_steps', self.total)
        if self.in_a_row >= self.max_skips:
            raise NonFiniteError(
                f'{self.message}\nTraining stops: {self.in_a_row} steps in a '
                'row were skipped. The weights are those before them. Look at '
                'the named images and their boxes first; else lower the '
                'learning rate, lengthen its warm-up, clip gradients '
                '(optim_wrapper.clip_grad), or train without --amp.'
            )

    def _step(self, **kwargs: Any) -> None:
        """In place of ``OptimWrapper.step``."""
        grads = []
        if not hasattr(self.wrapper, 'loss_scaler'):
            for group in self.wrapper.param_groups:
                grads += [p.grad for p in group['params']]
        grads = [grad for grad in grads if grad is not None]
        if grads:
            norms = torch._foreach_norm(grads, float('inf'))
            if not _all_ranks(torch.stack([n.float() for n in norms])):
                self._drop(self._bad_gradients(), 'gradient')
                return
        self._plain_step(**kwargs)

    def _drop(self, culprits: list[str], what: str) -> None:
        """Report a bad step on the main process."""
        self._dropping = True
        message = ''
        if culprits:
            names = ', '.join(image_files(self._batch.get('data_samples')))
            names = names or '(no img_path in the data)'
            message = f'{", ".join(culprits)}; images of the batch: {names}'
        messages = ' | '.join(filter(None, all_gather_object(message)))
        iteration = self.runner.iter + 1
        self.message = (
            f'{what} not finite in iteration {iteration}: {messages}'
        )
        self.runner.logger.warning(
            f'step skipped, nothing has moved: {self.message}'
        )

    def _bad_losses(self) -> list[str]:
        """Names and values of this rank's losses that are not finite."""
        outputs = self._outputs if isinstance(self._outputs, dict) else {}
        bad = []
        for name, value in outputs.items():
            if 'loss' not in name:
                continue
            parts = value if isinstance(value, list | tuple) else [value]
            total = sum(float(part.detach().mean()) for part in parts)
            if not math.isfinite(total):
                bad.append(f'{name} = {total}')
        return bad

    def _bad_gradients(self) -> list[str]:
        """The first parameters whose gradient is not finite."""
        bad = [
            name
            for name, param in self.model.named_parameters()
            if param.grad is not None and not torch.isfinite(param.grad).all()
        ]
        more = f' and {len(bad) - 3} more' if len(bad) > 3 else ''
        return [f'gradient of {", ".join(bad[:3])}{more}'] if bad else []


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
