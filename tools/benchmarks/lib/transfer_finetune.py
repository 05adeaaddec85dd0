"""Fine-tuning configs of transfer.py."""

import argparse
from pathlib import Path

from mmengine.config import Config

from lib.coco_data import DataSet
from lib.transfer_arms import BACKBONES, CONFIGS, DETECTORS
from mmfgl.utils.launch import set_amp
from mmfgl.utils.weights import safe_load

# Modules that a pretraining may hold for a detector, whole or not at all.
# fc_cls is never among them: its classes are others.
SHARED = {
    'faster-rcnn': ('neck', 'rpn_head', 'roi_head.bbox_head.shared_fcs'),
    'fgl': (
        'neck',
        'rpn_head',
        'roi_head.bbox_roi_extractor',
        'roi_head.tokenizer',
        'roi_head.transformer',
        'roi_head.bbox_head.fc_reg',
        'roi_head.bbox_head.fc_quality',
    ),
}
# Modules that others have by the same name: other methods a `neck` that is no
# feature pyramid, Faster R-CNN an `fc_reg` with boxes for each class.
MARKS = {
    'neck': 'neck.lateral_convs',
    'roi_head.bbox_head.fc_reg': 'roi_head.bbox_head.fc_quality',
}


def modules_to_load(
    checkpoint: str | Path, detector: str, trust: bool = False
) -> list[str]:
    """Which of a detector's modules a checkpoint holds, backbone first."""
    content = safe_load(str(checkpoint), trust)
    state = content.get('state_dict', content)
    return ['backbone'] + [
        name
        for name in SHARED[detector]
        if any(key.startswith(f'{MARKS.get(name, name)}.') for key in state)
    ]


def finetune_config(
    args: argparse.Namespace,
    data: DataSet,
    *,
    detector: str,
    seed: int,
    checkpoint: Path | None,
    ann_file: Path | None = None,
) -> Config:
    """Config of one fine-tuning run: the same for every arm but the start.

    It is evaluated once, at the end. ``checkpoint`` is where it starts,
    ``None`` for random weights; ``ann_file`` are the annotations to train on,
    if not all of ``train``.
    """
    iters, backbone = args.finetune_iters, BACKBONES[args.init]
    name = f'{DETECTORS[detector]}_{backbone}_fpn_1xb8-400_aquarium.py'
    cfg = Config.fromfile(CONFIGS / 'fgl_faster_rcnn' / name)
    _set_data(cfg, data, ann_file)
    cfg.model.roi_head.bbox_head.num_classes = len(data.classes)
    cfg.train_cfg.update(max_iters=iters, val_interval=iters)
    warmup = min(50, max(1, iters // 10))
    rise, fall = cfg.param_scheduler
    rise.update(end=warmup)
    fall.update(begin=warmup, end=iters, T_max=max(1, iters - warmup))
    cfg.default_hooks.checkpoint.update(
        interval=iters, max_keep_ckpts=1, save_optimizer=False
    )
    cfg.default_hooks.logger.interval = max(1, min(20, iters // 5))
    cfg.randomness = dict(seed=seed)
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    hooks = [h for h in cfg.custom_hooks if 'ChainHook' not in h['type']]
    if checkpoint is not None:
        modules = modules_to_load(checkpoint, detector, args.trust_checkpoint)
        chain = dict(type='mmfgl.CheckpointChainHook', modules=modules)
        hooks.insert(0, chain)
    cfg.custom_hooks = hooks
    if args.amp:
        set_amp(cfg)
    return cfg


def _set_data(cfg: Config, data: DataSet, ann_file: Path | None) -> None:
    """Point the data loaders at the data set, in place."""
    cfg.data_root = f'{data.root}/'
    cfg.metainfo = dict(classes=data.classes)
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        loader.dataset.update(
            data_root=cfg.data_root,
            metainfo=cfg.metainfo,
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'),
        )
        # images come from memory, so workers would only take cores away
        loader.update(num_workers=0, persistent_workers=False)
    train = cfg.train_dataloader.dataset
    train.pipeline[0] = dict(type='mmfgl.LoadCachedImage')
    if ann_file is not None:
        train.ann_file = str(ann_file)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.val_evaluator.ann_file = str(data.root / 'annotations/val.json')
    cfg.test_evaluator = cfg.val_evaluator
