"""From a pretraining to the training that starts from it."""

from __future__ import annotations

import logging
import os.path as osp

from mmengine.config import Config
from mmengine.logging import print_log

from mmfgl.utils.paths import installed
from mmfgl.utils.resume import find_checkpoint


def find_pretraining(cfg: Config) -> None:
    """Let ``load_from`` name a checkpoint of the pretraining, in place.

    A config that starts from another run names that run's last checkpoint, as
    ``work_dirs/NAME/epoch_100.pth``. Where this file is not there, the newest
    whole checkpoint of the run is taken, with a warning: of the folder named,
    or, if the runs are kept elsewhere (``--work-dir``), of the folder ``NAME``
    beside this run's work dir. ``load_from`` may also be such a folder. What
    is no run's, and what is resumed, is left alone.

    Raises:
        FileNotFoundError: There is none; says what to run, or to give.
        ValueError: None of the run's checkpoints is whole.
    """
    path = osp.expanduser(cfg.get('load_from') or '')
    cfg.load_from = path or None  # `load_from=` is none
    if cfg.get('resume') or not path or '://' in path or osp.isfile(path):
        return
    folder = path if osp.isdir(path) else osp.dirname(path)
    name = osp.basename(osp.normpath(folder))
    beside = osp.join(osp.dirname(osp.normpath(cfg.work_dir)), name)
    # not the folders of files of weights
    if not osp.isdir(path) and not _is_run(path):
        return
    for place in dict.fromkeys((folder, beside)):
        found = find_checkpoint(place)
        if found is None:
            continue
        if not osp.isdir(path):
            print_log(
                f'{path} is not there: starting from {found}, the newest '
                f'checkpoint of {name}. If its training was stopped early, '
                'end it first, with --resume.',
                'current',
                logging.WARNING,
            )
        cfg.load_from = found
        return
    raise FileNotFoundError(
        f'This config starts from a run that has no checkpoint yet: {path} '
        f'(nor is there one in {beside}). {_how_to_run(folder, cfg)}, or '
        'give a checkpoint: --cfg-options load_from=CHECKPOINT'
    )


def _is_run(path: str) -> bool:
    """Whether a missing file would be a training's checkpoint."""
    stem = osp.basename(path).partition('_')
    return stem[0] in ('epoch', 'iter') and path.endswith('.pth')


def _how_to_run(folder: str, cfg: Config) -> str:
    """What fills a work dir: a config of mmfgl's, or one beside this."""
    name = f'{osp.basename(osp.normpath(folder))}.py'
    own = osp.join(osp.dirname(cfg.filename or ''), name)
    for config in [*installed('configs').glob(f'*/{name}'), own]:
        if osp.isfile(config):
            tool = osp.relpath(installed('tools', 'train.py'))
            return f'Run it first: python {tool} {osp.relpath(config)}'
    return f'Run it first, with --work-dir {folder}'
