"""Trains some modules of a model and leaves the others untouched."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmfgl.registry import HOOKS


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freeze named modules, or all but these, parameters and buffers alike.

    ``lr_mult=0`` is not freezing: gradients are still computed and BatchNorm
    statistics go on moving. This hook, for everything that is to be frozen,

    - sets ``requires_grad=False`` and takes the parameters out of the
      optimizer, so that weight decay cannot reach them either;
    - keeps modules in evaluation mode (BatchNorm statistics, dropout),
      also after each validation, when the loop calls ``model.train()``.

    Modules that hold a trained one (a RoI head that holds the box head) stay
    in training mode, since their code may ask whether it is trained.

    The distributed wrapper is built anew, so that it waits for no frozen
    parameter and ``find_unused_parameters=False`` holds.

    Args:
        trainable: Dotted names of the modules or parameters that are
            trained, e.g. ``['roi_head.bbox_head.fc_cls']``; all else is
            frozen.
        frozen: Dotted names of those that are frozen, in place of
            ``trainable``; all else is trained. For the first layers of a
            backbone that has no ``frozen_stages``.

    Raises:
        ValueError: If not exactly one of both is a list of names.
    """

    priority = 'VERY_HIGH'  # before hooks that copy the model

    def __init__(
        self,
        trainable: Sequence[str] | None = None,
        frozen: Sequence[str] | None = None,
    ) -> None:
        if (trainable is None) == (frozen is None):
            raise ValueError(
                'FreezeHook takes either trainable or frozen, a list of '
                f'names, got trainable={trainable!r} and frozen={frozen!r}'
            )
        names = frozen if trainable is None else trainable
        if isinstance(names, str) or not names:
            raise ValueError(
                f'FreezeHook takes a list of names of modules, got {names!r}'
            )
        self.names = tuple(names)
        self.inverse = frozen is not None

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
        check_names(inner, self.names)
        freeze(inner, self._is_frozen)
        self._idle = frozen_modules(inner, self._is_frozen)
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
            f'FreezeHook: {counts[1]:,} parameters are trained, '
            f'{counts[0]:,} are frozen ({"" if self.inverse else "all but "}'
            f'{", ".join(self.names)})'
        )

    def _is_frozen(self, name: str) -> bool:
        """Whether a module or parameter of this name is to be frozen."""
        named = any(_inside(name, root) for root in self.names)
        return named == self.inverse

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Undo the ``model.train()`` of the loop for frozen modules.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
        """
        for module in self._idle:
            module.training = False


def check_names(model: nn.Module, names: Iterable[str]) -> None:
    """Check that every name holds a parameter that can be trained.

    Args:
        model: The model, without wrapper.
        names: Dotted names of modules or parameters.

    Raises:
        ValueError: If a name is not in the model or has nothing to train.
    """
    params = dict(model.named_parameters())
    for name in names:
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
                f'FreezeHook names {name!r}, but its parameters do not '
                'require gradients: look for frozen_stages or '
                'requires_grad=False in its config'
            )


def freeze(model: nn.Module, is_frozen: Callable[[str], bool]) -> None:
    """Take the gradients of some parameters away.

    Other parameters that did not require gradients before are left so.

    Args:
        model: The model, without wrapper.
        is_frozen: Tells by a parameter's dotted name.
    """
    for name, param in model.named_parameters():
        if is_frozen(name):
            param.requires_grad_(False)
            param.grad = None


def frozen_modules(
    model: nn.Module, is_frozen: Callable[[str], bool]
) -> list[nn.Module]:
    """Modules of which every part is frozen.

    Args:
        model: The model, without wrapper.
        is_frozen: Tells by the dotted name of a module or parameter.

    Returns:
        The modules, those inside others too.
    """
    trained = {''}
    for name, _ in (*model.named_modules(), *model.named_parameters()):
        if name and not is_frozen(name):
            while name not in trained:
                trained.add(name)
                name = name.rpartition('.')[0]
    return [m for name, m in model.named_modules() if name not in trained]


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
