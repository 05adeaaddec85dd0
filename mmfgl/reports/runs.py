"""Read what MMEngine's runs leave in their work dirs."""

import importlib
import json
import os
import platform
from pathlib import Path


def read_curve(
    work_dir: str | Path, key: str = 'loss'
) -> list[tuple[int, float]]:
    """(step, value) pairs that a training run has logged, in order.

    When it was resumed, its parts are joined, the later part counting where
    they overlap. ``key`` is e.g. ``'loss'`` or ``'coco/bbox_mAP'``.

    Raises:
        FileNotFoundError: The run has logged nothing.
    """
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'No */vis_data/scalars.json in {work_dir}: nothing was trained '
            'there, or the visualizer of the config has no LocalVisBackend.'
        )
    points = {}
    for file in files:
        for line in file.read_text(encoding='utf-8').splitlines():
            record = json.loads(line)
            if key in record:
                points[record['step']] = record[key]
    return sorted(points.items())


def read_metrics(work_dir: str | Path) -> dict[str, float]:
    """Metrics of the latest test run in a work dir of ``tools/test.py``.

    They are as MMEngine logs them: ``coco/bbox_mAP`` and so on in 0..1,
    ``time`` in seconds per batch.

    Raises:
        FileNotFoundError: There is no finished test run.
    """
    files = Path(work_dir).glob('*/*.json')
    files = [file for file in files if file.stem == file.parent.name]
    if not files:
        raise FileNotFoundError(f'No finished test run in {work_dir}.')
    return json.loads(max(files).read_text(encoding='utf-8'))


def machine_settings() -> dict[str, str]:
    """Describe machine and software, without any path or host name."""
    import torch

    cores = os.cpu_count()
    if hasattr(os, 'sched_getaffinity'):
        cores = len(os.sched_getaffinity(0))
    devices = range(torch.cuda.device_count())
    settings = {
        'cores': str(cores),
        'GPUs': ', '.join(map(torch.cuda.get_device_name, devices)) or 'none',
        'system': f'{platform.system()} {platform.machine()}',
        'Python': platform.python_version(),
    }
    for name in ('torch', 'mmcv', 'mmengine', 'mmdet', 'mmpretrain', 'mmfgl'):
        settings[name] = importlib.import_module(name).__version__
    return settings
