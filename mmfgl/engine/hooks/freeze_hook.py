"""Trains a few named modules and leaves everything else untouched."""

from collections.abc import Iterator, Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmfgl.registry import HOOKS


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freeze a model but for the named modules, parameters and buffers alike.

    ``lr_mult=0`` is not freezing: gradients are still computed and BatchNorm
    statistics go on moving. This hook, for everything but the named modules,

    - sets ``requires_grad=False`` and takes the parameters out of the
      optimizer, so that weight decay cannot reach them either;
    - keeps modules in evaluation mode (BatchNorm statistics, dropout),
      also after each validation, when the loop calls ``model.train()``.

    Modules that hold a named one (a RoI head that holds the box head) stay
    in training mode, since their code may ask whether it is trained.

    The distributed wrapper is built anew, so that it waits for no frozen
    parameter and ``find_unused_parameters=False`` holds.

    Args:
        trainable: Dotted names of the modules or parameters that are
            trained, e.g. ``['roi_head.bbox_head.fc_cls']``.
    """

    priority = 'VERY_HIGH'  # before hooks that copy the model

    def __init__(self, trainable: Sequence[str]) -> None:
        if isinstance(trainable, str) or not trainable:
            raise ValueError(
                'trainable takes a list of names of modules to be trained, '
                f'got {trainable!r}'
            )
        self.trainable = tuple(trainable)

    def before_run(self, runner: Runner) -> None:
        """Freeze the model before training; do nothing before a test.

        Args:
            runner: The runner.

        Raises:
            TypeError: If the model has a wrapper other than
                DistributedDataParallel.
            ValueError: If a name is not in the model or has nothing to
                train.
        """
        if not isinstance(
            runner.optim_wrapper, OptimWrapper | OptimWrapperDict
        ):
            return  # no optimizer: validation or test
        model = runner.model
        wrapped = is_model_wrapper(model)
        if wrapped and not isinstance(model, DistributedDataParallel):
            raise TypeError(
                'FreezeHook works with DistributedDataParallel, not with '
                f'{type(model).__name__}: remove model_wrapper_cfg'
            )
        inner = model.module if wrapped else model
        freeze_except(inner, self.trainable)
        evaluate_except(inner, self.trainable)
        if wrapped:
            runner.model = None
            del model  # its gradient hooks go with it
            runner.model = runner.wrap_model(
                runner.cfg.get('model_wrapper_cfg'), inner
            )
        _drop_frozen(runner.optim_wrapper)
        counts = [0, 0]
        for param in inner.parameters():
            counts[param.requires_grad] += param.numel()
        runner.logger.info(
            f'FreezeHook: {counts[1]:,} parameters are trained '
            f'({", ".join(self.trainable)}), {counts[0]:,} are frozen'
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Undo the ``model.train()`` of the loop for frozen modules.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
        """
        model = runner.model
        inner = model.module if is_model_wrapper(model) else model
        evaluate_except(inner, self.trainable)


def freeze_except(model: nn.Module, trainable: Sequence[str]) -> None:
    """Let only the named modules or parameters have gradients.

    Parameters of a named module that did not require gradients before are
    left so.

    Args:
        model: The model, without wrapper.
        trainable: Dotted names.

    Raises:
        ValueError: If a name is not in the model or has nothing to train.
    """
    params = dict(model.named_parameters())
    for name in trainable:
        found = [p for n, p in params.items() if _inside(n, name)]
        if not found:
            parent = name.rpartition('.')[0]
            known = dict(model.named_modules())
            while parent not in known:
                parent = parent.rpartition('.')[0]
            raise ValueError(
                f'{type(model).__name__} has no parameters named {name!r}. '
                f'{parent or "The model"} holds: '
                + ', '.join(n for n, _ in known[parent].named_children())
            )
        if not any(p.requires_grad for p in found):
            raise ValueError(
                f'{name!r} is to be trained, but its parameters do not '
                'require gradients: look for frozen_stages or '
                'requires_grad=False in its config'
            )
    for name, param in params.items():
        if not any(_inside(name, root) for root in trainable):
            param.requires_grad_(False)
            param.grad = None


def evaluate_except(model: nn.Module, trainable: Sequence[str]) -> None:
    """Put everything but the named modules and their parents into eval mode.

    Args:
        model: The model, without wrapper.
        trainable: Dotted names.
    """
    for name, module in model.named_modules():
        if not any(
            _inside(name, root) or _inside(root, name) for root in trainable
        ):
            module.training = False


def _inside(name: str, root: str) -> bool:
    """Whether ``name`` is ``root`` or below it; all are below ``''``."""
    return not root or name == root or name.startswith(f'{root}.')


def _drop_frozen(wrapper: OptimWrapper | OptimWrapperDict) -> None:
    """Take frozen parameters out of the optimizers, in place.

    Groups are kept even if they become empty: schedulers count them.
    """
    for optimizer in _optimizers(wrapper):
        for group in optimizer.param_groups:
            group['params'] = [p for p in group['params'] if p.requires_grad]


def _optimizers(wrapper: OptimWrapper | OptimWrapperDict) -> Iterator:
    """Every torch optimizer of a wrapper."""
    if isinstance(wrapper, OptimWrapperDict):
        for child in wrapper.values():
            yield child.optimizer
    else:
        yield wrapper.optimizer
