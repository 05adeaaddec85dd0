"""Checks of data, launcher and loaders, before anything runs."""

from __future__ import annotations

import os
import os.path as osp
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmdet.datasets.samplers import MultiSourceSampler
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch.utils.data import DataLoader

from mmfgl.registry import DATA_SAMPLERS
from mmfgl.utils.cpu_dist import RANK_VARIABLES

TRAINING = 'train_dataloader', 'val_dataloader'
_SHARDING = ('FullySharded', 'FSDP', 'DeepSpeed', 'ColossalAI')
LOCAL_SIZES = dict(
    pytorch='LOCAL_WORLD_SIZE', mpi='OMPI_COMM_WORLD_LOCAL_SIZE'
)


# what MMEngine wants together, for each of its loops
LOOPS = dict(
    train=('train_dataloader', 'train_cfg', 'optim_wrapper'),
    val=('val_dataloader', 'val_cfg', 'val_evaluator'),
    test=('test_dataloader', 'test_cfg', 'test_evaluator'),
)


def check_parts(cfg: Config) -> None:
    """Make sure of a model, of all that a loop needs, and of its end.

    Raises:
        ValueError: Names what is missing, or an epoch would never end.
    """
    if not isinstance(cfg.get('model'), Mapping):
        raise ValueError(
            f'{cfg.filename} has no model: give a whole config, not one of '
            'its bases'
        )
    for loop, names in LOOPS.items():
        missing = [name for name in names if cfg.get(name) is None]
        if 0 < len(missing) < len(names):
            there = [name for name in names if name not in missing]
            raise ValueError(
                f'the config sets {" and ".join(there)}, but not '
                f'{" and ".join(missing)}: give all three, or set all three '
                f'to None for no {loop} loop'
            )
    train = cfg.get('train_cfg') or {}
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    by_epoch = 'type' not in train and train.get('by_epoch')
    by_epoch = by_epoch or type_name(train) == 'EpochBasedTrainLoop'
    if by_epoch and _is_endless(sampler):
        raise ValueError(
            f'train_cfg counts epochs, and the {type_name(sampler)} of '
            'train_dataloader never ends one: set its sampler to '
            "dict(type='DefaultSampler', shuffle=True)"
        )


def _is_endless(sampler: Mapping) -> bool:
    kind = sampler.get('type')
    kind = DATA_SAMPLERS.get(kind) if isinstance(kind, str) else kind
    endless = InfiniteSampler, MultiSourceSampler
    return isinstance(kind, type) and issubclass(kind, endless)


def type_name(node: Mapping) -> str:
    """Name, without scope, of a config's type, which may be a class."""
    kind = node.get('type')
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def check_data_root(cfg: Config, loaders: Iterable[str] = TRAINING) -> None:
    """Make sure that a local ``data_root`` that data sets read is there.

    A ``data_root`` that an inherited config names and none of the loaders
    uses is no error.

    Args:
        cfg: The config.
        loaders: Names of the data loaders that the run will build.

    Raises:
        FileNotFoundError: The folder does not exist; says what to do.
    """
    root = cfg.get('data_root')
    if not root or ':' in root or osp.isdir(root):
        return
    if not any(_reads_below(cfg.get(loader), root) for loader in loaders):
        return
    build = ''
    if 'digit_scenes' in osp.basename(root.rstrip('/')):
        tool = 'tools/dataset_converters/digit_scenes.py'
        build = f'\n  - build this data set: python {tool} --out {root}'
    raise FileNotFoundError(
        f'The data_root of this config does not exist: {root}{build}\n'
        '  - name your own folder: --cfg-options data_root=DIR, or '
        'MMFGL_DATA_ROOT=PARENT_DIR for configs that read it'
    )


def check_reads_root(cfg: Config, new: str, loaders: Iterable[str]) -> None:
    """Make sure that another ``data_root`` changes what loaders read.

    Raises:
        ValueError: It would have no effect; says what to set.
    """
    root = cfg.get('data_root') or ''
    names = [name for name in loaders if cfg.get(name)]
    if root and any(_reads_below(cfg[name], root) for name in names):
        return
    if names:
        raise ValueError(
            f'--cfg-options data_root={new} has no effect: '
            f'{" and ".join(names)} read nothing below the data_root of the '
            f'config ({root or "none"}); set {names[0]}.dataset.data_root '
            'and the like'
        )


def _reads_below(node: Any, root: str) -> bool:
    """Whether a path inside nested dicts and lists begins with a folder."""
    if isinstance(node, str):
        return osp.join(node, '').startswith(osp.join(root, ''))
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list | tuple):
        return any(_reads_below(child, root) for child in node)
    return False


def check_launcher(launcher: str) -> None:
    """Make sure that ``--launcher`` fits what started this process.

    Without this check MMEngine stops with a bare ``KeyError: 'RANK'``, CUDA
    with an invalid device ordinal, or the processes wait for each other.

    Raises:
        ValueError: A variable of the launcher is missing or out of range,
            there are more processes than GPUs, or torchrun started several
            processes and ``launcher`` is ``'none'``.
    """
    if launcher == 'none':
        # none would know of the others
        size = os.environ.get('WORLD_SIZE', '1')
        if 'TORCHELASTIC_RUN_ID' in os.environ and size != '1':
            raise ValueError(
                f'torchrun started {size} processes, but --launcher is '
                'missing: each would train alone in the same work dir. Add '
                '--launcher pytorch.'
            )
        return
    names = RANK_VARIABLES[launcher]
    if launcher == 'pytorch':
        names = (*names, 'MASTER_ADDR', 'MASTER_PORT')
    starter = dict(
        pytorch='bash tools/dist_train.sh CONFIG GPUS (or dist_test.sh)',
        slurm='bash tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR',
        mpi='mpirun',
    )[launcher]
    remedy = f'start with {starter}, or leave --launcher out for one process'
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f'--launcher {launcher} needs the environment variables of its '
            f'launcher, but {", ".join(missing)} are not set: {remedy}'
        )
    values = [os.environ[name] for name in names[:3]]
    rank, size, local = (int(v) if v.isdigit() else -1 for v in values)
    if min(rank, local) < 0 or rank >= size:
        seen = ', '.join(f'{n}={v}' for n, v in zip(names, values))
        raise ValueError(
            f'--launcher {launcher}: {seen} is no rank of that many '
            f'processes, so they would wait for each other: {remedy}'
        )
    # Slurm may give each task GPUs of its own
    if launcher not in LOCAL_SIZES or not torch.cuda.is_available():
        return
    local_size = os.environ.get(LOCAL_SIZES[launcher], '')
    wanted = max(local + 1, int(local_size) if local_size.isdigit() else 0)
    found = torch.cuda.device_count()
    if wanted > found:
        raise ValueError(
            f'{wanted} processes were started on this machine, but it shows '
            f'{found} GPUs (CUDA_VISIBLE_DEVICES='
            f'{os.environ.get("CUDA_VISIBLE_DEVICES", "not set")}): start '
            f'{found} processes'
        )


def check_wrapper(cfg: Config) -> None:
    """Refuse an EMA teacher whose student is spread over the ranks.

    Raises:
        ValueError: The config wraps a model with an EMA teacher in FSDP.
    """
    if not cfg.model.get('target_generator'):
        return
    # the latter is FlexibleRunner's
    for key in ('model_wrapper_cfg', 'strategy'):
        kind = str((cfg.get(key) or {}).get('type', ''))
        if any(name in kind for name in _SHARDING):
            raise ValueError(
                f'{kind} keeps a part of the weights on each rank, and the '
                'EMA teacher (model.target_generator) averages whole ones: '
                f'take {key} out of the config, for DistributedDataParallel'
            )


def check_loader(loader: DataLoader) -> None:
    """Make sure that a data loader gives at least one batch.

    Raises:
        ValueError: A batch of all ranks takes more images than there are;
            says how many.
    """
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    if isinstance(sampler, InfiniteSampler) or len(loader) > 0:
        return
    size = getattr(loader.batch_sampler, 'batch_size', loader.batch_size)
    ranks, images = get_world_size(), len(loader.dataset)
    most = -(-images // ranks)  # images a rank
    total = f'{size} images'
    if ranks > 1:
        total += f' on each of {ranks} ranks, {size * ranks} in all'
    raise ValueError(
        f'a batch takes {total}, but the data set has {images} that can be '
        'used, and drop_last leaves out a batch that is not full: set '
        f'batch_size of the data loader to at most {most}, or drop_last=False'
    )
