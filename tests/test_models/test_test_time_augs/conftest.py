"""Tiny detectors and views shared by the tests of test-time augmentation."""

import copy
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.test_time_augs import RoITTAModel
from mmfgl.testing.models import CHANNELS, tiny_fgl_cfg

CLASSES = 3
SIZES = [(64, 96), (80, 64)]
META_KEYS = ('img_id', 'ori_shape', 'img_shape', 'scale_factor')
META_KEYS += ('flip', 'flip_direction', 'slice_window')


class PatchBackbone(nn.Module):
    """Average pooling to strides 4 to 32, so flips commute with it."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.embed = nn.ModuleList(
            [nn.Conv2d(3, CHANNELS, 1) for _ in range(4)]
        )

    def forward(self, x):
        self.calls.append(len(x))
        return tuple(
            conv(nn.functional.avg_pool2d(x, 2 ** (i + 2), ceil_mode=True))
            for i, conv in enumerate(self.embed)
        )


def _build(cfg, masks, seed):
    """Build a detector over :class:`PatchBackbone`, without a neck."""
    torch.manual_seed(seed)
    cfg = ConfigDict(cfg, neck=None, train_cfg=None)
    if cfg.rpn_head:
        cfg.rpn_head.anchor_generator.update(
            scales=[3, 9], ratios=[0.5, 1.0, 2.0], center_offset=0.5
        )
    cfg.test_cfg.rpn.update(nms_pre=100, max_per_img=30)
    cfg.test_cfg.rcnn.update(
        score_thr=0.05, max_per_img=20, mask_thr_binary=0.5
    )
    if masks:
        extractor = dict(
            cfg.roi_head.bbox_roi_extractor, type='mmdet.SingleRoIExtractor'
        )
        cfg.roi_head.update(
            mask_roi_extractor=extractor,
            mask_head=dict(
                type='mmdet.FCNMaskHead',
                num_convs=1,
                in_channels=CHANNELS,
                conv_out_channels=CHANNELS,
                num_classes=CLASSES,
            ),
        )
    detector = MODELS.build(cfg)
    detector.backbone = PatchBackbone()
    return detector.eval()


def build_fgl_detector(seed=0, masks=False, **changes):
    """An FGL Faster R-CNN, random but for its backbone."""
    detector = _build(tiny_fgl_cfg(CLASSES, **changes), masks, seed)
    for param in detector.roi_head.parameters():
        nn.init.normal_(param, std=0.3)
    return detector


FGL = dict(
    fgl=dict(bbox_head=dict(voting_iou=0.4)),
    fgl_targets=dict(num_targets=8),
    fgl_grid=dict(
        rpn_head=None,
        region_proposer=dict(type='mmfgl.GridRegions', cell_sizes=(24, 40)),
    ),
    fgl_masks=dict(masks=True),
)


def build_detector(kind='classwise', seed=0):
    """A Faster R-CNN, with ``'masks'`` or ``'agnostic'`` boxes, or an FGL.

    All but FGL's commute with flips.
    """
    if kind in FGL:
        return build_fgl_detector(seed, **FGL[kind])
    extractor = tiny_fgl_cfg().roi_head.bbox_roi_extractor
    extractor.type = 'mmdet.SingleRoIExtractor'
    box_head = dict(
        type='mmdet.BBoxHead',
        with_avg_pool=True,
        roi_feat_size=3,
        in_channels=CHANNELS,
        num_classes=CLASSES,
        reg_class_agnostic=kind == 'agnostic',
    )
    roi_head = dict(
        type='mmdet.StandardRoIHead',
        bbox_roi_extractor=extractor,
        bbox_head=box_head,
    )
    cfg = tiny_fgl_cfg(type='mmdet.FasterRCNN', roi_head=roi_head)
    detector = _build(cfg, kind == 'masks', seed)
    for module in detector.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, std=1 / CHANNELS**0.5)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
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


def plain_batch(images, scale=None, **resize):
    """What an ordinary test pipeline and collation make of images."""
    views = view_batch(images, [scale], flips=[None], **resize)
    return {key: value[0] for key, value in views.items()}


def view_batch(
    images, scales, flips=(None,), keep_ratio=True, pad=None, windows=()
):
    """Views of images by a real TestTimeAug pipeline, collated.

    A scale ``None`` keeps the image's own size. ``windows`` are those of
    ImageSlice, besides the whole image.
    """
    batch, windows = [], ((0, 0, 1, 1), *windows)
    for index, image in enumerate(images):
        own = (image.shape[1], image.shape[0])
        transforms = [
            [dict(type='mmfgl.ImageSlice', window=w) for w in windows],
            [
                dict(type='Resize', scale=s or own, keep_ratio=keep_ratio)
                for s in scales
            ],
            [
                dict(
                    type='RandomFlip',
                    prob=float(f is not None),
                    direction=f or 'horizontal',
                )
                for f in flips
            ],
            [dict(type='Pad', size=pad)] if pad else [],
            [dict(type='PackDetInputs', meta_keys=META_KEYS)],
        ]
        pipeline = Compose(
            [
                dict(type='mmdet.LoadImageFromNDArray'),
                dict(
                    type='TestTimeAug',
                    transforms=[step for step in transforms if step],
                ),
            ]
        )
        batch.append(pipeline(dict(img=image, img_id=index)))
    return pseudo_collate(batch)


def make_images(sizes=SIZES, seed=0):
    """Blocky random images of (height, width), uint8."""
    rng = np.random.default_rng(seed)
    images = []
    for height, width in sizes:
        blocks = rng.integers(0, 256, (height // 8, width // 8, 3))
        image = blocks.repeat(8, axis=0).repeat(8, axis=1)
        images.append(image.astype(np.uint8))
    return images


def assert_same(ours, theirs, exact=True):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = a.pred_instances, b.pred_instances
        assert set(a.keys()) == set(b.keys())
        assert len(a) == len(b)
        for key, value in b.items():
            assert a[key].dtype == value.dtype
            if exact:
                assert torch.equal(a[key], value), key
            elif value.dtype == torch.bool:
                # a pixel on the threshold may fall either way
                assert (a[key] != value).float().mean() < 0.01
            else:
                torch.testing.assert_close(a[key], value, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def plain(detector, data):
    return detector.test_step(copy.deepcopy(data))


def tta(detector, data, **options):
    return RoITTAModel(detector, **options).test_step(copy.deepcopy(data))


def record_rois(detector, monkeypatch):
    """What predict_bbox gets and gives for the first image, each call."""
    calls, predict = [], detector.roi_head.predict_bbox

    def predict_bbox(x, metas, rpn_results, **kwargs):
        results = predict(x, metas, rpn_results, **kwargs)
        calls.append(
            SimpleNamespace(
                width=metas[0]['img_shape'][1],
                level_shift=kwargs.get('level_shift', 0),
                given=rpn_results[0],
                scores=results[0].scores,
            )
        )
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
            sample.proposals = InstanceData(
                bboxes=boxes[index] if boxes else corners.reshape(20, 4)
            )
    return data


class OracleRoIHead(StandardRoIHead):
    """Sees where in the image every RoI is, whatever the view."""

    def predict_bbox(self, x, batch_img_metas, rpn_results_list, **kwargs):
        results = []
        for meta, given in zip(batch_img_metas, rpn_results_list, strict=True):
            boxes = given.bboxes.clone()
            scale = meta['scale_factor']
            left, top, right, bottom = meta['slice_window']
            height = round((bottom - top) * scale[1])
            width = round((right - left) * scale[0])
            if meta['flip_direction'] in ('horizontal', 'diagonal'):
                boxes[:, 0::2] = width - boxes[:, [2, 0]]
            if meta['flip_direction'] in ('vertical', 'diagonal'):
                boxes[:, 1::2] = height - boxes[:, [3, 1]]
            seen = boxes / boxes.new_tensor(scale * 2)
            seen += boxes.new_tensor([left, top] * 2)
            logits = torch.cat([seen / 20, seen[:, :1] * 0], dim=1)
            results.append(
                InstanceData(
                    bboxes=given.bboxes.clone(), scores=logits.softmax(1)
                )
            )
        return results


@pytest.fixture
def tools():
    """This module: detectors, images and views, in mmdet's scope."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield sys.modules[__name__]
