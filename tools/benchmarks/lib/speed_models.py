"""The contestants of speed.py, from their own configs, and their batches."""

import argparse
import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import mmdet.models  # noqa: F401
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

import mmfgl  # noqa: F401
from mmfgl.testing import detection_batch, region_batch
from mmfgl.testing.configs import read_config
from mmfgl.utils.flops import count_flops

CONFIGS = Path(__file__).parents[3] / 'configs'
DETECTORS = {
    'fgl': str(
        CONFIGS / 'fgl_faster_rcnn/fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py'
    ),
    'faster-rcnn': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
}
RETOD = str(CONFIGS / 'retod/retod_r50-fpn_8xb64-100e_coco.py')
# those of COCO, whose cost is counted
FLAGSHIPS = {
    path.name.split('_8x')[0]: str(path)
    for path in sorted((CONFIGS / 'retod').glob('*_8xb*_coco.py'))
}
PRETRAINERS = {
    'byol': 'mmpretrain::byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
    'mocov2': 'mmpretrain::mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py',
    'densecl': 'mmpretrain::densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py',
}
NUM_OBJECTS = 8
SHARED = ('backbone.', 'neck.', 'rpn_head.')


@lru_cache
def _config(name: str) -> Config:
    # without pretrained weights: random ones take the same time
    return get_config(name) if '::' in name else read_config(name)


def sampling_ratio() -> int:
    """RoIAlign samples a side of a cell, for both detectors FGL's."""
    extractor = _config(DETECTORS['fgl']).model.roi_head.bbox_roi_extractor
    return extractor.roi_layer.sampling_ratio


def detectors(
    args: argparse.Namespace, names: Sequence[str] = tuple(DETECTORS)
) -> dict[str, nn.Module]:
    """Detectors with the same random backbone, neck and RPN.

    Each gives exactly ``args.proposals`` proposals an image at test time.
    """
    models = {}
    for name in names:
        cfg = copy.deepcopy(_config(DETECTORS[name]).model)
        cfg.backbone.init_cfg = None
        extractor = cfg.roi_head.bbox_roi_extractor
        extractor.roi_layer.sampling_ratio = sampling_ratio()
        cfg.test_cfg.rpn.max_per_img = args.proposals
        with DefaultScope.overwrite_default_scope('mmdet'):
            torch.manual_seed(0)
            model = MODELS.build(cfg)
            model.init_weights()
        models[name] = _fix_proposals(model.to(args.device), args)
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


def _random_boxes(num: int, args: argparse.Namespace) -> Tensor:
    """(num, 4) boxes with sides of 16 pixels to half the image, log-uniform.

    They crowd around some centres, as proposals do.
    """
    generator = torch.Generator().manual_seed(0)
    frame = torch.tensor([args.width, args.height]).float()
    centres = torch.rand(NUM_OBJECTS * 4, 2, generator=generator)
    own = torch.randint(len(centres), (num,), generator=generator)
    noise = torch.randn(num, 2, generator=generator) * 0.03
    centres = (centres[own] + noise).clamp(0, 1) * frame
    logs = torch.rand(num, 2, generator=generator)
    sides = 16 * (frame / 32) ** logs
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1)
    return torch.minimum(boxes.clamp(min=0), frame.repeat(2))


def images(args: argparse.Namespace, num: int) -> dict:
    """A batch of images with ``NUM_OBJECTS`` true boxes each."""
    return detection_batch([(args.height, args.width)] * num, NUM_OBJECTS, 80)


def inference(args: argparse.Namespace, model: nn.Module) -> Callable:
    """A function that detects the objects of one image."""
    batch = images(args, 1)
    model.eval()
    return torch.no_grad()(lambda: model.test_step(batch))


def training(args: argparse.Namespace, model: nn.Module) -> Callable:
    """A function that takes a step: losses, gradients and SGD.

    The learning rate is 0: weights stay.
    """
    batch = images(args, args.batch)
    wrapper = _optimizer(model)
    model.train()

    def step() -> None:
        # the parents move boxes between fields of the samples
        samples = [sample.clone() for sample in batch['data_samples']]
        model.train_step(dict(batch, data_samples=samples), wrapper)

    return step


def _optimizer(model: nn.Module) -> OptimWrapper:
    """SGD with momentum, the same for every contestant."""
    optimizer = dict(type='SGD', lr=0.0, momentum=0.9, weight_decay=1e-4)
    return build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=optimizer)
    )


def pretraining(args: argparse.Namespace) -> dict[str, Callable]:
    """Functions that take a training step, by method.

    ReToD and mmpretrain's methods, all with a R50, on the same number of
    images: in two views for them, in those of its config for ReToD.
    """
    cfg = _config(RETOD)
    views = _views(cfg)

    def batch_of(num_views: int, num_regions: int) -> dict:
        return region_batch(
            num_images=args.pretrain_batch,
            num_views=num_views,
            num_regions=num_regions,
            size=args.crop,
            num_objects=views.max_objects,
            num_labels=cfg.num_clusters,
        )

    batches = dict.fromkeys(PRETRAINERS, batch_of(2, 1))
    batches['retod'] = batch_of(views.num_views, views.num_regions)
    # the momentum of mmpretrain's targets follows the length of the run
    MessageHub.get_current_instance().update_info('max_iters', 10_000)
    names = dict(retod=RETOD, **PRETRAINERS)
    return {
        name: _pretrainer(path, batches[name], args.device)
        for name, path in names.items()
    }


def pretraining_cost(name: str, size: int | None = None) -> dict[str, float]:
    """What an image costs in a pretraining, counted.

    One image with as many pseudo-objects as its config takes, in the views of
    the config. ``student_flops`` are those of all losses, forward, without a
    frozen teacher's ``teacher_flops``.

    Args:
        name: Of :data:`FLAGSHIPS`.
        size: Side of a view in pixels, by default the config's.
    """
    cfg = _config(FLAGSHIPS[name])
    views = _views(cfg)
    size = size or views.view_size
    batch = region_batch(
        num_images=1,
        num_views=views.num_views,
        num_regions=views.num_regions,
        size=size,
        num_objects=views.max_objects,
        num_labels=cfg.num_clusters,
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(cfg.model)).train()
    data = model.data_preprocessor(batch, True)
    whole = count_flops(lambda: model.loss(**data))
    pixels = torch.cat(data['inputs'])
    teachers = (
        getattr(task, 'teacher', None) for task in model.tasks.values()
    )
    frozen = sum(
        count_flops(lambda teacher=teacher: teacher(pixels))
        for teacher in teachers
        if teacher is not None
    )
    return dict(
        view_size=size,
        rois=cfg.model.detector.train_cfg.rcnn.sampler.num,
        params=sum(p.numel() for p in model.parameters() if p.requires_grad),
        student_flops=whole - frozen,
        teacher_flops=frozen,
    )


def _views(cfg: Config) -> dict:
    """The transform of a pretraining config that makes the views."""
    pipeline = cfg.train_dataloader.dataset.pipeline
    (views,) = (s for s in pipeline if s.type == 'mmfgl.RegionViews')
    return views


def _pretrainer(path: str, batch: dict, device: str) -> Callable:
    cfg = copy.deepcopy(_config(path).model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        model = MODELS.build(cfg).to(device).train()
    wrapper = _optimizer(model)
    moves_teacher = getattr(model, 'teacher', None) is not None
    if moves_teacher:
        model.teacher_is_driven = True

    def step() -> None:
        model.train_step(batch, wrapper)
        if moves_teacher:
            model.update_teacher(0.996)

    return step
