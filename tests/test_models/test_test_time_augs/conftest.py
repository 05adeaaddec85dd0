"""Tiny detectors and views shared by the tests of test-time augmentation."""

import copy
import sys
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmdet.structures.bbox import bbox_flip
from mmengine.config import ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.test_time_augs import RoITTAModel
from mmfgl.testing import (
    detection_batch,
    randomise_weights,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)
from mmfgl.testing.models import CHANNELS

CLASSES = 3
SIZES = [(64, 96), (80, 64)]
FLIP = 'horizontal'
META_KEYS = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')
META_KEYS += ('flip', 'flip_direction', 'slice_window')


class PatchBackbone(nn.Module):
    """Average pooling to strides 4 to 32, so flips commute with it."""

    def __init__(self):
        super().__init__()
        self.calls = []
        convs = [nn.Conv2d(3, CHANNELS, 1) for _ in range(4)]
        self.embed = nn.ModuleList(convs)

    def forward(self, x):
        self.calls.append(len(x))
        return tuple(
            conv(nn.functional.avg_pool2d(x, 2 ** (i + 2), ceil_mode=True))
            for i, conv in enumerate(self.embed)
        )


def _build(cfg, masks):
    """Build a detector over :class:`PatchBackbone`, without a neck."""
    torch.manual_seed(0)
    cfg = ConfigDict(cfg, neck=None, train_cfg=None)
    if cfg.rpn_head:
        anchors = dict(scales=[3, 9], ratios=[0.5, 1, 2], center_offset=0.5)
        cfg.rpn_head.anchor_generator.update(anchors)
    cfg.test_cfg.rpn.update(nms_pre=100, max_per_img=30)
    cfg.test_cfg.rcnn.update(score_thr=0.05, max_per_img=20)
    if masks:
        cfg.test_cfg.rcnn.mask_thr_binary = 0.5
        cfg.roi_head.mask_roi_extractor = dict(
            cfg.roi_head.bbox_roi_extractor, type='mmdet.SingleRoIExtractor'
        )
        cfg.roi_head.mask_head = dict(
            type='mmdet.FCNMaskHead',
            num_convs=1,
            in_channels=CHANNELS,
            conv_out_channels=CHANNELS,
            num_classes=CLASSES,
        )
    detector = MODELS.build(cfg)
    detector.backbone = PatchBackbone()
    return detector.eval()


FGL = dict(
    fgl=dict(bbox_head=dict(voting_iou=0.4)),
    fgl_targets=dict(num_targets=8),
    fgl_grid=dict(
        rpn_head=None,
        region_proposer=dict(type='mmfgl.GridRegions', cell_sizes=(24, 40)),
    ),
    fgl_masks=dict(),
)


def build_detector(kind='classwise'):
    """A Faster R-CNN, with ``'masks'`` or ``'agnostic'`` boxes, or an FGL.

    All but FGL's commute with flips.
    """
    masks = kind.endswith('masks')
    if kind in FGL:
        detector = _build(tiny_fgl_cfg(CLASSES, **FGL[kind]), masks)
        randomise_weights(detector.roi_head)
        return detector
    cfg = tiny_plain_detector_cfg()
    cfg.roi_head.bbox_head = dict(
        type='mmdet.BBoxHead',
        with_avg_pool=True,
        roi_feat_size=3,
        in_channels=CHANNELS,
        num_classes=CLASSES,
        reg_class_agnostic=kind == 'agnostic',
    )
    detector = _build(cfg, masks)
    for module in detector.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, std=1 / CHANNELS**0.5)
            nn.init.normal_(module.bias, std=0.1)
            if module.weight.dim() == 4:  # symmetric kernels
                weight = module.weight.data
                weight = weight + weight.flip(-1)
                module.weight.data = (weight + weight.flip(-2)) / 4
    head = detector.roi_head.bbox_head
    for layer in (detector.rpn_head.rpn_reg, head.fc_reg):
        for param in (layer.weight, layer.bias):
            deltas = param.data.view(-1, 4, *param.shape[1:])
            deltas *= 0.05  # boxes stay as large as their anchors
            deltas[:, :2] = 0  # a shift of the centre has a direction
    # opinions that differ between RoIs, few of them background
    nn.init.normal_(head.fc_cls.weight, std=2.0)
    head.fc_cls.bias.data[-1] = -2
    return detector


def plain_batch(images, scale=None):
    """What an ordinary test pipeline and collation make of images."""
    views = view_batch(images, [scale])
    return {key: value[0] for key, value in views.items()}


def view_batch(
    images, scales, flips=(None,), keep_ratio=True, pad=None, windows=()
):
    """Views of images by a real TestTimeAug pipeline, collated.

    A scale ``None`` keeps the image's own size. ``windows`` are those of
    ImageSlice, besides the whole image.
    """
    windows = [(0, 0, 1, 1), *windows]
    slices = [dict(type='mmfgl.ImageSlice', window=w) for w in windows]
    turns = [
        dict(type='RandomFlip', prob=float(f is not None), direction=f or FLIP)
        for f in flips
    ]
    ending = [[dict(type='PackDetInputs', meta_keys=META_KEYS)]]
    if pad:
        ending.insert(0, [dict(type='Pad', size=pad)])
    batch = []
    for index, image in enumerate(images):
        resize = dict(type='Resize', keep_ratio=keep_ratio)
        own = image.shape[1::-1]
        sizes = [dict(resize, scale=scale or own) for scale in scales]
        views = [slices, sizes, turns, *ending]
        load = dict(type='mmdet.LoadImageFromNDArray')
        pipeline = Compose([load, dict(type='TestTimeAug', transforms=views)])
        batch.append(pipeline(dict(img=image, img_id=index)))
    return pseudo_collate(batch)


def make_images(sizes=SIZES):
    """Blocky random images of (height, width), uint8."""
    images = detection_batch(sizes)['inputs']
    return [image.permute(1, 2, 0).numpy().copy() for image in images]


def assert_same(ours, theirs, exact=True):
    tolerance = dict(rtol=0, atol=0) if exact else dict(rtol=1e-4, atol=1e-3)
    for a, b in zip(ours, theirs, strict=True):
        a, b = (dict(x.pred_instances.items()) for x in (a, b))
        if not exact and 'masks' in a:
            # a pixel on the threshold may fall either way
            changed = a.pop('masks') != b.pop('masks')
            assert not changed.numel() or changed.float().mean() < 0.01
        torch.testing.assert_close(a, b, **tolerance)


@torch.no_grad()
def plain(detector, data):
    return detector.test_step(copy.deepcopy(data))


def tta(detector, data, **options):
    return RoITTAModel(detector, **options).test_step(copy.deepcopy(data))


def record_rois(detector, monkeypatch):
    """What predict_bbox gets and gives for the first image, each call."""
    calls, predict = [], detector.roi_head.predict_bbox

    def predict_bbox(x, metas, rpn_results, level_shift=0, **kwargs):
        shift = dict(level_shift=level_shift) if level_shift else {}
        results = predict(x, metas, rpn_results, **shift, **kwargs)
        call = SimpleNamespace(given=rpn_results[0], level_shift=level_shift)
        call.width, call.scores = metas[0]['img_shape'][1], results[0].scores
        calls.append(call)
        return results

    monkeypatch.setattr(detector.roi_head, 'predict_bbox', predict_bbox)
    return calls


def give_proposals(data, boxes=None):
    """Put the same boxes, 20 random ones of each image, into all its views.

    ``boxes``, one tensor an image, are put as they are.
    """
    for view in data['data_samples']:
        torch.manual_seed(0)
        for index, sample in enumerate(view):
            corners = torch.rand(20, 2, 2).sort(dim=1).values
            corners = corners * torch.tensor(sample.ori_shape[::-1])
            corners -= torch.tensor(sample.slice_window[:2])
            corners *= torch.tensor(sample.scale_factor)
            given = boxes[index] if boxes else corners.reshape(20, 4)
            sample.proposals = InstanceData(bboxes=given)
    return data


class OracleRoIHead(StandardRoIHead):
    """Sees where in the image every RoI is, whatever the view."""

    def predict_bbox(self, x, batch_img_metas, rpn_results_list, **kwargs):
        results = []
        for meta, given in zip(batch_img_metas, rpn_results_list, strict=True):
            seen, scale = given.bboxes, torch.tensor(meta['scale_factor'])
            corners = torch.tensor(meta['slice_window']).view(2, 2)
            if meta['flip']:
                width, height = ((corners[1] - corners[0]) * scale).round()
                direction = meta['flip_direction']
                seen = bbox_flip(seen, (height, width), direction)
            seen = seen / scale.repeat(2) + corners[0].repeat(2)
            scores = torch.cat([seen / 20, seen[:, :1] * 0], dim=1).softmax(1)
            boxes = given.bboxes.clone()
            results.append(InstanceData(bboxes=boxes, scores=scores))
        return results


@pytest.fixture
def tools():
    """This module: detectors, images and views, in mmdet's scope."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield sys.modules[__name__]
