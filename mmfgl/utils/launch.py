"""What tools/train.py and tools/test.py share around MMEngine's Runner."""

from __future__ import annotations

import argparse
import importlib
import os
import os.path as osp
import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmfgl.utils.checked_runner import CheckedRunner
from mmfgl.utils.config_checks import (
    TRAINING,
    check_parts,
    check_reads_root,
    check_wrapper,
    type_name,
)
from mmfgl.utils.cpu_dist import init_cpu_dist
from mmfgl.utils.option_checks import check_options
from mmfgl.utils.quiet import quiet_imports
from mmfgl.utils.user_errors import add_debug_argument


class OptionAction(DictAction):
    """MMEngine's ``KEY=VALUE ...``; ends at once on what is none."""

    def __call__(
        self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any
    ) -> None:
        """Read the pairs."""
        try:
            super().__call__(parser, *args, **kwargs)
        except ValueError:
            pairs = next(arg for arg in args if isinstance(arg, list))
            wrong = next(pair for pair in pairs if '=' not in pair)
            parser.error(
                f'{self.option_strings[0]} takes KEY=VALUE without spaces, '
                f'and other arguments before it: {wrong!r} is no such pair'
            )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that training and testing have in common."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionAction,
        help='override settings of the config, as key=value or '
        'key="[(a,b),(c,d)]" without spaces; data_root=DIR moves every path '
        'below the old data root along',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='unpickle checkpoints that hold more than weights and the like, '
        'which can run any code: only for files whose source you trust',
    )
    add_debug_argument(parser)
    # torchrun of PyTorch >= 2.0 passes --local-rank, older ones --local_rank.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def load_config(
    args: argparse.Namespace, loaders: Sequence[str] = TRAINING
) -> Config:
    """Read the config of the command line and apply its overrides.

    ``work_dir`` is that of the command line, else of the config, else
    ``work_dirs/<config name>``.

    Args:
        args: The command line, with :func:`add_common_arguments`.
        loaders: Names of the data loaders that the tool will build.

    Raises:
        ValueError: A setting is misspelt, has no effect, or lacks others
            that belong to it.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    # MMEngine 0.10.7 imports it anew whenever it asks for a package
    deprecated = 'pkg_resources is deprecated'
    warnings.filterwarnings('ignore', message=deprecated)
    # sooner or later the Runner would import them, with their chatter
    with quiet_imports():
        importlib.import_module('mmdet.datasets')
        importlib.import_module('mmdet.evaluation')
    cfg = Config.fromfile(args.config)
    if cfg.get('default_scope') == 'mmpretrain':
        with quiet_imports():
            importlib.import_module('mmpretrain.datasets')
    options = dict(args.cfg_options or {})
    root = options.pop('data_root', None)
    check_options(cfg, options)
    if root is not None:
        check_reads_root(cfg, str(root), loaders)
        replace_data_root(cfg, str(root))
    cfg.merge_from_dict(options)
    check_parts(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def replace_data_root(cfg: Config, new_root: str) -> None:
    """Move every path below ``cfg.data_root`` to another root, in place.

    A config that is read has copied it into data loaders and evaluators.
    """
    old = cfg.data_root.rstrip('/')
    new = new_root.rstrip('/') or '/'

    def move(value: Any) -> Any:
        if isinstance(value, str) and f'{value}/'.startswith(f'{old}/'):
            return new + value[len(old) :]
        if isinstance(value, dict):
            for key in list(value):
                value[key] = move(value[key])
        elif isinstance(value, list | tuple):
            return type(value)(move(item) for item in value)
        return value

    for key in list(cfg.keys()):
        cfg[key] = move(cfg[key])


def set_amp(cfg: Config) -> None:
    """Switch mixed precision on, in place: fp16, or bf16 on a CPU.

    Raises:
        ValueError: The config's optimizer wrapper is of another kind.
    """
    wrapper = cfg.optim_wrapper
    kind = type_name({'type': 'OptimWrapper', **wrapper})
    if kind not in ('OptimWrapper', 'AmpOptimWrapper', 'CPUAmpOptimWrapper'):
        raise ValueError(
            f'--amp can not be combined with the optimizer wrapper "{kind}" '
            'of this config: it replaces OptimWrapper only.'
        )
    if get_device() == 'cpu':
        wrapper.type = 'mmfgl.CPUAmpOptimWrapper'
        wrapper.pop('loss_scale', None)
    else:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


def set_auto_scale_lr(cfg: Config) -> None:
    """Scale the learning rate with the total batch size, in place.

    Raises:
        ValueError: The config does not say for which one its rate is meant.
    """
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ValueError(
            '--auto-scale-lr needs the batch size that the learning rate of '
            'the config is meant for; add '
            'auto_scale_lr=dict(enable=False, base_batch_size=N) to it.'
        )
    cfg.auto_scale_lr.enable = True


def build_runner(cfg: Config, *hooks: Hook) -> Runner:
    """Build the Runner of a config, on one process or several.

    ``hooks`` are registered besides those of the config, if it has none of
    their kind.
    """
    check_wrapper(cfg)
    init_cpu_dist(cfg)
    known = 'runner_type' in cfg
    runner = RUNNERS.build(cfg) if known else CheckedRunner.from_cfg(cfg)
    kinds = {type(hook) for hook in runner.hooks}
    for hook in hooks:
        if type(hook) not in kinds:
            runner.register_hook(hook)
    return runner
