"""Pretraining configs of the arms of transfer.py."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from lib.coco_data import DataSet
from mmfgl.utils.audit.uses import parts_of
from mmfgl.utils.launch import set_amp

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = ROOT / 'configs'
BACKBONES = {'random': 'r18-half', 'imagenet': 'efficientnet-lite0'}
# --detector -> its name in the names of configs
DETECTORS = {'faster-rcnn': 'faster-rcnn', 'fgl': 'fgl-faster-rcnn'}
# The config of an arm that pretrains the detector's own modules, and of one
# that pretrains a backbone.
PATTERNS = (
    '{arm}_{detector}_{backbone}-fpn_1xb*.py',
    '{arm}_{backbone}_1xb*.py',
)
NEVER = 10**7  # iterations


@dataclass(frozen=True)
class Arm:
    """One way to start a detector."""

    name: str  # in tables
    path: str | None = None  # config given on the command line

    @classmethod
    def parse(cls, text: str) -> 'Arm':
        """Read ``NAME`` or ``NAME=CONFIG.py``."""
        name, _, path = text.strip().partition('=')
        if not re.fullmatch(r'[\w.-]+', name):
            raise ValueError(f'not a name of an arm: {text!r}')
        return cls(name, path or None)

    @property
    def pretrains(self) -> bool:
        """Whether it is pretrained at all."""
        return self.name != 'none'

    @property
    def is_outside(self) -> bool:
        """Whether another program pretrains it (LightlyTrain)."""
        return self.name == 'lightly' and self.path is None

    def config(self, init: str, detector: str) -> Path:
        """Find its pretraining config for ``--init`` and one detector.

        Raises:
            FileNotFoundError: There is none, or there are several; says
                where it was looked for.
        """
        if self.path is not None:
            tried = [Path(self.path)]
            found = [path for path in tried if path.is_file()]
        else:
            names = dict(arm=self.name, backbone=BACKBONES[init])
            names['detector'] = DETECTORS[detector]
            folder = CONFIGS / 'transfer'
            tried = [folder / p.format(**names) for p in PATTERNS]
            found = []
            for path in tried:
                found = found or sorted(folder.glob(path.name))
        if len(found) == 1:
            return found[0].resolve()
        number = len(found) or 'no'
        raise FileNotFoundError(
            f'There is {number} config of the arm "{self.name}" instead of '
            'one. Looked for:\n  '
            + '\n  '.join(map(str, tried))
            + '\nGive one as --arms NAME=CONFIG.py'
        )


def lightly_command(args: argparse.Namespace, images: Path) -> list[str]:
    """The command of the arm that LightlyTrain pretrains, without budget.

    Raises:
        ValueError: An option it needs is missing or does not fit.
    """
    if args.lightly_python is None:
        raise ValueError(
            'the arm "lightly" runs LightlyTrain, an outside program: say '
            'where it is installed with --lightly-python PATH (see '
            'tools/benchmarks/lightly.py)'
        )
    if args.init != 'imagenet':
        raise ValueError(
            'the arm "lightly" needs --init imagenet: the half-width '
            'ResNet-18 is no model that LightlyTrain can build'
        )
    command = [str(ROOT / 'tools/benchmarks/lightly.py'), str(images)]
    command += ['--python', str(Path(args.lightly_python).absolute())]
    command += [f'--view-size={args.view_size}', f'--workers={args.workers}']
    command.append(f'--seed={args.pretrain_seed}')
    return command + ['--amp'] * args.amp


def region_search(
    path: Path,
    images: Path,
    out: Path,
    weights: Path | None,
    locate: Callable[[str], Path],
) -> list[str] | None:
    """The command that finds the regions an arm is pretrained on.

    ``num_clusters`` in its config asks for the search and is the number of
    pseudo-classes; ``cluster_by`` is ``'backbone'`` (features of the
    detector's backbone with the ImageNet weights), ``'teacher'`` or
    ``'colour'`` (colours and gradients). ``region_teacher``, a dict of
    ``model``, ``weights`` and maybe ``size``, asks for its embeddings of the
    regions.

    Args:
        path: Config of the arm.
        images: Folder of the images.
        out: Region file to write.
        weights: The ImageNet weights, if the arm starts from them.
        locate: Finds a file of weights that the config names.

    Returns:
        Script and arguments, or ``None`` for an arm without a search.

    Raises:
        FileNotFoundError: The teacher's weights do not exist.
        ValueError: ``cluster_by`` does not fit.
    """
    cfg = Config.fromfile(path)
    if 'num_clusters' not in cfg:
        return None
    tool = ROOT / 'tools/dataset_converters/propose_regions.py'
    command = [str(tool), str(images), f'--out={out}', '--workers=2']
    command += ['--cfg-options', 'mode=single', 'max_regions=15']
    by, teacher = cfg.get('cluster_by'), cfg.get('region_teacher')
    if cfg.num_clusters > 1:
        command += [f'--clusters={cfg.num_clusters}']
        known = ('teacher', 'colour') if teacher else ('backbone', 'colour')
        if by not in known:
            raise ValueError(
                f"cluster_by must be '{known[0]}' or 'colour' in {path}, got "
                f'{by!r}'
            )
        if by == 'backbone':
            if weights is None:
                raise ValueError(
                    f"cluster_by='backbone' in {path} needs --init imagenet"
                )
            command += ['--teacher', str(path), str(weights)]
        elif teacher and by == 'colour':
            command += ['--cluster-by=colour']
    if teacher:
        found = str(locate(teacher['weights']))
        command += ['--teacher', teacher['model'], found]
        if 'size' in teacher:
            command += [f'--teacher-size={teacher["size"]}']
    return command


def frozen_teachers(cfg: Config) -> list[dict]:
    """Configs of the frozen teachers in the model of an arm."""
    parts = parts_of(cfg.model)
    return [part for part in parts if part['type'] == 'mmfgl.FrozenTeacher']


def pretrain_config(
    cfg: Config,
    args: argparse.Namespace,
    data: DataSet,
    *,
    seconds: float | None,
    weights: Path | None,
    regions: Path,
) -> Config:
    """Fit the config of an arm to data set and budget.

    All arms get the same data (the images of ``train/``, no label), crop
    size, precision and budget (``seconds``, or ``None`` for
    ``pretrain_iters``); the rest is their own. ``weights`` are for arms that
    start from some, ``regions`` stands for ``{proposals}``. ``cfg`` stays.
    """
    text = cfg.pretty_text.replace('{proposals}', str(regions))
    cfg = Config.fromstring(text, '.py')
    cfg.randomness = dict(seed=args.pretrain_seed)
    cfg.data_root = f'{data.root}/'
    loader = cfg.train_dataloader
    loader.dataset.update(
        data_root=cfg.data_root, data_prefix=dict(img_path='train/')
    )
    for hook in cfg.get('custom_hooks', []):
        if hook['type'] == 'mmfgl.RegionProbeHook':
            hook.dataloader.dataset.data_root = cfg.data_root
            for step in parts_of(hook.dataloader.dataset.pipeline):
                if step['type'] == 'mmfgl.RegionViews':
                    step['view_size'] = args.view_size
    workers = args.workers
    loader.update(num_workers=workers, persistent_workers=workers > 0)
    for step in parts_of(loader.dataset.pipeline):
        if step['type'].endswith('RandomResizedCrop'):
            step['scale'] = args.view_size
        elif step['type'] == 'mmfgl.RegionViews':
            step['view_size'] = args.view_size
            _budget_hook(cfg)['views'] = step.get('num_views', 2)
    if 'queue_len' in cfg.model:
        cfg.model.queue_len = queue_length(data.num_images, loader.batch_size)
    _set_budget(cfg, seconds, args.pretrain_iters)
    if args.optimizer == 'adamw':
        _set_adamw(cfg)
    if cfg.get('load_from') is not None:
        if weights is None:
            raise ValueError(
                'an arm whose config has a load_from needs --init imagenet'
            )
        cfg.load_from = str(weights)
    if args.amp:
        set_amp(cfg)
    return cfg


def _budget_hook(cfg: Config) -> dict:
    """The BudgetHook of a config, added if there is none."""
    hooks = cfg.setdefault('custom_hooks', [])
    for hook in hooks:
        if str(hook['type']).endswith('BudgetHook'):
            return hook
    hooks.insert(0, dict(type='mmfgl.BudgetHook', views=2))
    return hooks[0]


def _set_budget(cfg: Config, seconds: float | None, iters: int | None) -> None:
    """Let the run end after the budget and save only then, in place."""
    _budget_hook(cfg)['seconds'] = seconds
    cfg.param_scheduler = []
    # with a budget of seconds, the hook sets the number of iterations
    cfg.train_cfg.update(max_iters=iters or NEVER, val_interval=NEVER + 1)
    cfg.default_hooks.checkpoint.update(interval=NEVER, max_keep_ckpts=1)
    interval = 10 if iters is None else max(1, min(10, iters // 10))
    cfg.default_hooks.logger.interval = interval


def _set_adamw(cfg: Config) -> None:
    """Take the optimizer of ReToD's arms, unless it is AdamW already.

    The learning rates that the other methods publish are made for hundreds
    of epochs; in some minutes they move little.
    """
    if cfg.optim_wrapper.optimizer.type == 'AdamW':
        return
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
        clip_grad=dict(max_norm=10, norm_type=2),
    )
    _budget_hook(cfg)['warmup'] = 0.05


def queue_length(num_images: int, batch_size: int) -> int:
    """Length of a MoCo queue: keys of half an epoch, 65,536 at most.

    A longer queue would hold other views of the very images it should tell
    apart. It is a multiple of the batch, of at least two.
    """
    batches = min(num_images // 2, 65536) // batch_size
    return max(batches, 2) * batch_size
