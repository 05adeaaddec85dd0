"""Distributed training on CPUs, with gloo."""

from __future__ import annotations

import datetime
import logging
import os
import subprocess

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

# launcher -> where it puts RANK, WORLD_SIZE and LOCAL_RANK
_MPI = 'OMPI_COMM_WORLD_'
RANK_VARIABLES = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=(f'{_MPI}RANK', f'{_MPI}SIZE', f'{_MPI}LOCAL_RANK'),
)


def init_cpu_dist(cfg: Config) -> None:
    """Prepare distributed training on CPUs; does nothing on accelerators.

    MMEngine's launchers call ``torch.cuda.set_device``, and its Runner gives
    DistributedDataParallel a GPU number. But it leaves an existing process
    group alone and prefers the config's ``device_ids``, so joining a gloo
    group is enough: ``cfg`` gets a ``model_wrapper_cfg``, loses ``sync_bn``.

    Raises:
        KeyError: The launcher has not set a variable it should have.
    """
    if cfg.get('launcher', 'none') == 'none' or get_device() != 'cpu':
        return
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    for name, source in zip(names, RANK_VARIABLES[cfg.launcher], strict=True):
        os.environ[name] = _variable(source, cfg.launcher)
    if cfg.launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        nodes = _variable('SLURM_NODELIST', 'slurm')
        command = ['scontrol', 'show', 'hostnames', nodes]
        hosts = subprocess.run(command, check=True, capture_output=True)
        os.environ['MASTER_ADDR'] = hosts.stdout.decode().split()[0]
    os.environ.setdefault('MASTER_PORT', '29500')
    _variable('MASTER_ADDR', cfg.launcher)
    if not dist.is_initialized():
        dist_cfg = cfg.get('env_cfg', {}).get('dist_cfg', {})
        timeout = datetime.timedelta(seconds=dist_cfg.get('timeout', 1800))
        dist.init_process_group('gloo', timeout=timeout)
    if cfg.get('model_wrapper_cfg') is None:
        # What the Runner would have used, but for the device.
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=cfg.get('find_unused_parameters', False),
        )
    cfg.model_wrapper_cfg.setdefault('device_ids', None)
    if cfg.get('sync_bn'):
        cfg.sync_bn = None
        message = 'SyncBatchNorm needs GPUs: each process normalises its batch'
        print_log(message, logger='current', level=logging.WARNING)


def _variable(name: str, launcher: str) -> str:
    if name not in os.environ:
        raise KeyError(
            f'--launcher {launcher} needs the environment variable {name}, '
            'which is not set. Was this process started by the launcher, '
            'e.g. with tools/dist_train.sh?'
        )
    return os.environ[name]
