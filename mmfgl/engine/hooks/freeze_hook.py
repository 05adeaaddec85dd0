"""Trains some modules of a model and leaves the others untouched."""

from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap


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
        trainable: Dotted names of all modules or parameters that are trained,
            e.g. ``['roi_head.bbox_head.fc_cls']``.
        frozen: In place of ``trainable``, those that are frozen, e.g. the
            first layers of a backbone without ``frozen_stages``.

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
                f'FreezeHook takes a list of names, got {names!r}'
            )
        self.names = tuple(names)
        self.inverse = frozen is not None
        self._idle: list[nn.Module] = []

    def before_run(self, runner: Runner) -> None:
        """Freeze the model before training; do nothing before a test.

        Raises:
            TypeError: A wrapper is no DistributedDataParallel, or there are
                several optimizers.
            ValueError: A name is not in the model or has nothing to train.
        """
        wrapper = runner.optim_wrapper
        if isinstance(wrapper, OptimWrapperDict):
            raise TypeError('FreezeHook works with one optimizer')
        if not isinstance(wrapper, OptimWrapper) or is_rehearsal(runner):
            return  # none is built for validation or a test
        model, wrapped = unwrap(runner.model), is_model_wrapper(runner.model)
        if wrapped and not isinstance(runner.model, DistributedDataParallel):
            raise TypeError(
                'FreezeHook works with DistributedDataParallel, not with '
                f'{type(runner.model).__name__}: remove model_wrapper_cfg'
            )
        for name in self.names:
            _check_name(model, name)
        counts = [0, 0]
        for name, param in model.named_parameters():
            if self._is_frozen(name):
                param.requires_grad_(False)
                param.grad = None
            counts[param.requires_grad] += param.numel()
        if wrapped:
            runner.model = None  # the old wrapper's gradient hooks go with it
            cfg = runner.cfg.get('model_wrapper_cfg')
            runner.model = runner.wrap_model(cfg, model)
        # wrapping with sync_bn has put new modules in the place of BatchNorm
        self._idle = self._frozen_modules(unwrap(runner.model))
        # groups are kept even if they become empty: schedulers count them
        for group in wrapper.param_groups:
            group['params'] = [p for p in group['params'] if p.requires_grad]
        runner.logger.info(
            f'FreezeHook: {counts[1]:,} parameters are trained, '
            f'{counts[0]:,} are frozen ({"" if self.inverse else "all but "}'
            f'{", ".join(self.names)})'
        )

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Undo the ``model.train()`` of the loop for frozen modules."""
        for module in self._idle:
            module.training = False

    def _is_frozen(self, name: str) -> bool:
        """Whether a module or parameter of this name is to be frozen."""
        named = any(_inside(name, root) for root in self.names)
        return named == self.inverse

    def _frozen_modules(self, model: nn.Module) -> list[nn.Module]:
        """Modules of which every part is frozen, those inside others too."""
        trained = {''}
        for name, _ in (*model.named_modules(), *model.named_parameters()):
            if name and not self._is_frozen(name):
                while name not in trained:
                    trained.add(name)
                    name = name.rpartition('.')[0]
        return [m for name, m in model.named_modules() if name not in trained]


def _check_name(model: nn.Module, name: str) -> None:
    """Raise ValueError unless ``name`` holds a parameter to be trained."""
    found = [p for n, p in model.named_parameters() if _inside(n, name)]
    if not found:
        parent = name.rpartition('.')[0]
        known = dict(model.named_modules())
        while parent not in known:
            parent = parent.rpartition('.')[0]
        children = ', '.join(n for n, _ in known[parent].named_children())
        raise ValueError(
            f'{type(model).__name__} has no parameters named {name!r}. '
            f'{parent or "The model"} holds: {children}'
        )
    if not any(p.requires_grad for p in found):
        raise ValueError(
            f'FreezeHook names {name!r}, but its parameters do not require '
            'gradients: look for frozen_stages or requires_grad=False in its '
            'config'
        )


def _inside(name: str, root: str) -> bool:
    """Whether ``name`` is ``root`` or below it."""
    return name == root or name.startswith(f'{root}.')
