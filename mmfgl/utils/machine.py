"""What machine and software a run has."""

from __future__ import annotations

import importlib
import os
import platform


def cores() -> int:
    """Number of CPU cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine_settings() -> dict[str, str]:
    """Describe machine and software, without any path or host name."""
    import torch

    devices = range(torch.cuda.device_count())
    settings = {
        'cores': str(cores()),
        'GPUs': ', '.join(map(torch.cuda.get_device_name, devices)) or 'none',
        'system': f'{platform.system()} {platform.machine()}',
        'Python': platform.python_version(),
    }
    for name in ('torch', 'mmcv', 'mmengine', 'mmdet', 'mmpretrain', 'mmfgl'):
        settings[name] = importlib.import_module(name).__version__
    return settings
