"""Checks that turn the commonest user mistakes into clear errors."""

from __future__ import annotations

import os.path as osp

from mmengine.config import Config


def check_data_root(cfg: Config) -> None:
    """Make sure that a local ``data_root``, if any, is there.

    Raises:
        FileNotFoundError: The folder does not exist; says what to do.
    """
    root = cfg.get('data_root')
    if root is None or ':' in root or osp.isdir(root):
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
