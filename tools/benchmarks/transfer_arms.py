"""Pretraining configs of the arms of transfer.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmfgl.utils.launch import set_amp

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
BACKBONES = {'random': 'r18-half', 'imagenet': 'efficientnet-lite0'}
# Where the config of an arm is looked for, in this order. An arm that knows
# the detector's modules has a config for each detector.
PATTERNS = {
    'fgl': (
        'transfer/{arm}_{backbone}.py',
        'retod/{arm}_{backbone}-fpn_1xb8_transfer.py',
    ),
    'faster-rcnn': (
        'transfer/{arm}_{backbone}.py',
        'retod/{stem}-plain{tail}_{backbone}-fpn_1xb8_transfer.py',
        'retod/{arm}_{backbone}-fpn_1xb8_transfer.py',
    ),
}


@dataclass(frozen=True)
class Arm:
    """One way to start a detector.

    Attributes:
        name: Its name in tables.
        path: Config given on the command line, if any.
    """

    name: str
    path: str | None = None

    @classmethod
    def parse(cls, text: str) -> Arm:
        """Read ``NAME`` or ``NAME=CONFIG.py``."""
        name, _, path = text.strip().partition('=')
        if not re.fullmatch(r'[\w.-]+', name):
            raise ValueError(f'not a name of an arm: {text!r}')
        return cls(name, path or None)

    @property
    def pretrains(self) -> bool:
        """Whether it is pretrained at all."""
        return self.name != 'none'

    def config(self, init: str, detector: str) -> Path:
        """Find its pretraining config.

        Args:
            init: ``'random'`` or ``'imagenet'``.
            detector: ``'faster-rcnn'`` or ``'fgl'``.

        Returns:
            The config file.

        Raises:
            FileNotFoundError: There is none; says where it was looked for.
        """
        if self.path is not None:
            tried = [Path(self.path)]
        else:
            stem, dash, tail = self.name.partition('-')
            names = dict(
                arm=self.name,
                stem=stem,
                tail=dash + tail,
                backbone=BACKBONES[init],
            )
            tried = [CONFIGS / p.format(**names) for p in PATTERNS[detector]]
        for path in tried:
            if path.is_file():
                return path.resolve()
        raise FileNotFoundError(
            f'There is no config of the arm "{self.name}". Looked for:\n  '
            + '\n  '.join(map(str, tried))
            + '\nGive one as --arms NAME=CONFIG.py'
        )


def retod_config(detector: str, init: str) -> Config:
    """The config of the arm ``retod``, as its file has it.

    Args:
        detector: ``'faster-rcnn'`` or ``'fgl'``.
        init: ``'random'`` or ``'imagenet'``.
    """
    return Config.fromfile(Arm('retod').config(init, detector))


def pretrain_config(
    cfg: Config,
    *,
    data_root: Path,
    num_images: int,
    view_size: int,
    seconds: float | None,
    iters: int | None,
    workers: int = 2,
    amp: bool = False,
    weights: Path | None = None,
    proposals: Path | None = None,
) -> Config:
    """Fit the config of an arm to data set and budget.

    All arms get the same data (the images of ``train/``, no label), crop
    size, precision and budget; the rest is their own.

    Args:
        cfg: Config of the arm; not changed.
        data_root: Folder that holds ``train/``.
        num_images: Number of images in it.
        view_size: Side of the views in pixels.
        seconds: Budget in seconds, or ``None`` for ``iters``.
        iters: Number of iterations, if ``seconds`` is ``None``.
        workers: Processes that load data.
        amp: Mixed precision.
        weights: ImageNet weights, for arms that start from some.
        proposals: File that stands for ``{proposals}`` in the config.

    Returns:
        The config of the run.
    """
    cfg = cfg.copy()
    cfg.pop('proposals_command', None)
    if proposals is not None:
        cfg = Config(_replace(cfg.to_dict(), '{proposals}', str(proposals)))
    cfg.data_root = f'{data_root}/'
    loader = cfg.train_dataloader
    loader.dataset.update(
        data_root=cfg.data_root, data_prefix=dict(img_path='train/')
    )
    loader.update(num_workers=workers, persistent_workers=workers > 0)
    for step in steps_of(loader.dataset.pipeline):
        if step['type'].endswith('RandomResizedCrop'):
            step['scale'] = view_size
        elif step['type'].endswith('.RegionViews'):
            step['view_size'] = view_size
    if 'queue_len' in cfg.model:
        cfg.model.queue_len = queue_length(num_images, loader.batch_size)
    _set_budget(cfg, seconds, iters)
    if cfg.get('load_from') is not None:
        cfg.load_from = str(weights)
    if amp:
        set_amp(cfg)
    return cfg


def _set_budget(cfg: Config, seconds: float | None, iters: int | None) -> None:
    """Let the run end after the budget and save only then, in place."""
    hooks = cfg.setdefault('custom_hooks', [])
    budget = [h for h in hooks if str(h['type']).endswith('BudgetHook')]
    if not budget:
        budget = [dict(type='mmfgl.BudgetHook', views=2)]
        hooks.insert(0, budget[0])
    budget[0]['seconds'] = seconds
    cfg.param_scheduler = []
    # with a budget of seconds, the hook sets the number of iterations
    most = 10**7
    cfg.train_cfg.update(max_iters=iters or most, val_interval=most + 1)
    cfg.default_hooks.checkpoint.update(interval=most, max_keep_ckpts=1)
    interval = 10 if iters is None else max(1, min(10, iters // 10))
    cfg.default_hooks.logger.interval = interval


def queue_length(num_images: int, batch_size: int) -> int:
    """Length of a MoCo queue: keys of half an epoch, 65,536 at most.

    A longer queue would hold other views of the very images it should tell
    apart. It is a multiple of the batch, of at least two.

    Args:
        num_images: Number of images.
        batch_size: Images a batch.
    """
    batches = min(num_images // 2, 65536) // batch_size
    return max(batches, 2) * batch_size


def steps_of(pipeline: Sequence) -> Iterator[dict]:
    """Every transform of a pipeline, those inside others included.

    Args:
        pipeline: A list of transform configs.
    """
    for step in pipeline:
        if isinstance(step, dict):
            yield step
            step = step.get('transforms', ())
        if isinstance(step, list | tuple):
            yield from steps_of(step)


def _replace(value: Any, old: str, new: str) -> Any:
    """Replace a text inside all strings of nested lists and dicts."""
    again: Callable[[Any], Any] = lambda v: _replace(v, old, new)  # noqa: E731
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: again(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(again, value))
    return value
