"""The contestants of speed.py, from their own configs, and their batches."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import mmdet.models  # noqa: F401
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import nn

import mmfgl  # noqa: F401
from mmfgl.testing import region_batch

CONFIGS = Path(__file__).parents[2] / 'configs'
FGL = CONFIGS / 'fgl_faster_rcnn/fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py'
FASTER_RCNN = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
RETOD = CONFIGS / 'retod/retod_r50-fpn_8xb64-100e_coco.py'
PRETRAINERS = {
    'byol': 'mmpretrain::byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
    'mocov2': 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
    'densecl': 'mmpretrain::densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py',
}
NUM_OBJECTS = 8
SHARED = ('backbone.', 'neck.', 'rpn_head.')


@lru_cache
def _config(name: str) -> Config:
    if '::' in name:
        return get_config(name)
    return Config.fromfile(name)


def sampling_ratio(config: str) -> int:
    """RoIAlign samples a side of a cell, for both detectors FGL's."""
    extractor = _config(config).model.roi_head.bbox_roi_extractor
    return extractor.roi_layer.sampling_ratio


def detectors(
    args: argparse.Namespace, names: Sequence[str] = ('fgl', 'faster-rcnn')
) -> dict[str, nn.Module]:
    """Detectors with the same random backbone, neck and RPN.

    Args:
        args: Command line of speed.py.
        names: Which detectors.

    Returns:
        Models by name, on the device, each giving exactly
        ``args.proposals`` proposals an image at test time.
    """
    models = {}
    for name in names:
        path = args.config if name == 'fgl' else FASTER_RCNN
        cfg = copy.deepcopy(_config(path).model)
        cfg.backbone.init_cfg = None
        extractor = cfg.roi_head.bbox_roi_extractor
        extractor.roi_layer.sampling_ratio = sampling_ratio(args.config)
        cfg.test_cfg.rpn.max_per_img = args.proposals
        with DefaultScope.overwrite_default_scope('mmdet'):
            torch.manual_seed(args.seed)
            model = MODELS.build(cfg)
            model.init_weights()
        models[name] = _fix_proposals(model.to(args.device), args)
    if len(models) > 1:
        first, *others = models.values()
        weights = {
            key: value
            for key, value in first.state_dict().items()
            if key.startswith(SHARED)
        }
        for model in others:
            model.load_state_dict(weights, strict=False)
    return models


def _fix_proposals(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """Run the RPN, then hand on a fixed number of random proposals.

    Random weights give as many proposals as NMS happens to leave, and boxes
    no trained RPN would give.
    """
    boxes = _random_boxes(args.proposals, args).to(args.device)
    scores = torch.linspace(1, 0.01, args.proposals, device=args.device)
    predict = model.rpn_head.predict

    def fixed(*inputs, **options):
        results = predict(*inputs, **options)
        return [
            InstanceData(bboxes=boxes.clone(), scores=scores.clone())
            for _ in results
        ]

    model.rpn_head.predict = fixed
    return model


def _random_boxes(num: int, args: argparse.Namespace) -> torch.Tensor:
    """(num, 4) boxes with sides of 16 pixels to half the image, log-uniform.

    They crowd around ``NUM_OBJECTS`` places, as proposals do.
    """
    generator = torch.Generator().manual_seed(args.seed)
    frame = torch.tensor([args.width, args.height]).float()
    places = torch.rand(NUM_OBJECTS * 4, 2, generator=generator)
    own = torch.randint(len(places), (num,), generator=generator)
    noise = torch.randn(num, 2, generator=generator) * 0.03
    centres = (places[own] + noise).clamp(0, 1) * frame
    logs = torch.rand(num, 2, generator=generator)
    sides = 16 * (frame / 32) ** logs
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1)
    frame = frame.repeat(2)
    return torch.minimum(boxes.clamp(min=0), frame)


def images(args: argparse.Namespace, num: int) -> dict:
    """A batch of noise images with ``NUM_OBJECTS`` true boxes each.

    Args:
        args: Command line of speed.py.
        num: Number of images.

    Returns:
        ``inputs`` and ``data_samples`` as from a data loader.
    """
    generator = torch.Generator().manual_seed(args.seed)
    shape = (args.height, args.width)
    inputs, samples = [], []
    for index in range(num):
        inputs.append(
            torch.randint(
                256, (3, *shape), generator=generator, dtype=torch.uint8
            )
        )
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=shape,
                ori_shape=shape,
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=_random_boxes(NUM_OBJECTS, args),
            labels=torch.randint(80, (NUM_OBJECTS,), generator=generator),
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def detection_trainer(
    args: argparse.Namespace, model: nn.Module
) -> Callable[[], None]:
    """A training step: losses, gradients and SGD (lr 0: weights stay).

    Args:
        args: Command line of speed.py.
        model: The detector.

    Returns:
        Function that takes one step.
    """
    batch = images(args, args.batch)
    wrapper = _optimizer(model)

    def step() -> None:
        model.train()
        # the parents move boxes between fields of the samples
        samples = [sample.clone() for sample in batch['data_samples']]
        model.train_step(dict(batch, data_samples=samples), wrapper)

    return step


def _optimizer(model: nn.Module):
    """SGD with momentum, the same for every contestant."""
    optimizer = dict(type='SGD', lr=0.0, momentum=0.9, weight_decay=1e-4)
    return build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=optimizer)
    )


def pretrainers(args: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Training steps of ReToD and of mmpretrain's methods, all R50.

    Args:
        args: Command line of speed.py.

    Returns:
        Functions that take one step, by method.
    """
    return {
        name: _pretrainer(args, name, path)
        for name, path in dict(retod=str(RETOD), **PRETRAINERS).items()
    }


def _pretrainer(
    args: argparse.Namespace, name: str, path: str
) -> Callable[[], None]:
    cfg = _config(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(args.seed)
        model = MODELS.build(copy.deepcopy(cfg.model)).to(args.device)
    model.train()
    # the momentum of mmpretrain's targets follows the length of the run
    MessageHub.get_current_instance().update_info('max_iters', 10_000)
    wrapper = _optimizer(model)
    regions = _config(str(RETOD)).region_views_pipeline[1].num_regions
    batch = region_batch(
        num_images=args.pretrain_batch, num_regions=regions, size=args.crop
    )
    if name != 'retod':

        def step() -> None:
            model.train_step(batch, wrapper)

        return step
    model.teacher_is_driven = True

    def retod_step() -> None:
        model.train_step(batch, wrapper)
        model.update_teacher(0.996)

    return retod_step
