"""Tiny detectors and views shared by the tests of test-time augmentation."""

import copy
from types import SimpleNamespace

import mmcv
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

CHANNELS, CLASSES = 8, 3
SIZES = [(64, 96), (80, 64)]
WHOLE = (0, 0, 1, 1)
META_KEYS = (
    'img_id',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
    'slice_window',
)


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


def detector_cfg(agnostic=False, masks=False):
    """Config of a Faster or Mask R-CNN over :class:`PatchBackbone`."""
    extractor = dict(
        type='mmdet.SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=3, sampling_ratio=2),
        out_channels=CHANNELS,
        featmap_strides=[4, 8, 16],
        finest_scale=12,
    )
    roi_head = dict(
        type='mmdet.StandardRoIHead',
        bbox_roi_extractor=extractor,
        bbox_head=dict(
            type='mmdet.BBoxHead',
            with_avg_pool=True,
            roi_feat_size=3,
            in_channels=CHANNELS,
            num_classes=CLASSES,
            reg_class_agnostic=agnostic,
        ),
    )
    if masks:
        roi_head['mask_roi_extractor'] = extractor
        roi_head['mask_head'] = dict(
            type='mmdet.FCNMaskHead',
            num_convs=1,
            in_channels=CHANNELS,
            conv_out_channels=CHANNELS,
            num_classes=CLASSES,
        )
    nms = dict(type='nms', iou_threshold=0.5)
    return dict(
        type='mmdet.MaskRCNN' if masks else 'mmdet.FasterRCNN',
        data_preprocessor=dict(
            type='mmdet.DetDataPreprocessor',
            mean=[127.5] * 3,
            std=[30.0] * 3,
            pad_size_divisor=32,
        ),
        backbone=dict(type='mmdet.ResNet', depth=18),
        rpn_head=dict(
            type='mmdet.RPNHead',
            in_channels=CHANNELS,
            feat_channels=CHANNELS,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator',
                scales=[3, 9],
                ratios=[0.5, 1.0, 2.0],
                strides=[4, 8, 16, 32],
                center_offset=0.5,
            ),
        ),
        roi_head=roi_head,
        train_cfg=None,
        test_cfg=dict(
            rpn=dict(
                nms_pre=100,
                max_per_img=30,
                nms=dict(type='nms', iou_threshold=0.7),
                min_bbox_size=0,
            ),
            rcnn=dict(
                score_thr=0.05,
                nms=nms,
                max_per_img=20,
                mask_thr_binary=0.5,
            ),
        ),
    )


def build_fgl_detector(num_targets=None, masks=False, seed=0, **changes):
    """An FGL Faster R-CNN over :class:`PatchBackbone`, random but for it."""
    torch.manual_seed(seed)
    cfg = detector_cfg(agnostic=True, masks=masks)
    cfg['type'] = 'mmfgl.FGLFasterRCNN'
    roi_head = cfg['roi_head']
    roi_head['type'] = 'mmfgl.FGLRoIHead'
    roi_head['bbox_roi_extractor']['type'] = 'mmfgl.FGLRoIExtractor'
    roi_head['tokenizer'] = dict(
        type='mmfgl.RegionTokenizer',
        in_channels=CHANNELS,
        roi_feat_size=3,
        embed_dims=16,
        squeeze_channels=4,
    )
    roi_head['transformer'] = dict(
        type='mmfgl.RegionTransformer', embed_dims=16, num_heads=2
    )
    roi_head['selector'] = dict(
        type='mmfgl.CandidateSelector', num_targets=num_targets
    )
    roi_head['bbox_head'] = dict(
        type='mmfgl.FGLBBoxHead',
        in_channels=16,
        num_classes=CLASSES,
        reg_class_agnostic=True,
    )
    cfg.update(changes)
    detector = MODELS.build(ConfigDict(cfg))
    detector.backbone = PatchBackbone()
    for param in detector.roi_head.parameters():
        nn.init.normal_(param, std=0.3)
    return detector.eval()


def build_detector(agnostic=False, masks=False, seed=0):
    """A detector whose every operation commutes with flips of the image."""
    torch.manual_seed(seed)
    detector = MODELS.build(ConfigDict(detector_cfg(agnostic, masks)))
    detector.backbone = PatchBackbone()
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
    return detector.eval()


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
    batch = []
    for index, image in enumerate(images):
        own = (image.shape[1], image.shape[0])
        resizes = [
            dict(type='Resize', scale=s or own, keep_ratio=keep_ratio)
            for s in scales
        ]
        flip_steps = [
            dict(type='RandomFlip', prob=1.0, direction=f)
            if f
            else dict(type='RandomFlip', prob=0.0)
            for f in flips
        ]
        pads = [[dict(type='Pad', size=pad)]] if pad else []
        slices = [
            dict(type='mmfgl.ImageSlice', window=window)
            for window in (WHOLE, *windows)
        ]
        pipeline = Compose(
            [
                dict(type='mmdet.LoadImageFromNDArray'),
                dict(
                    type='TestTimeAug',
                    transforms=[
                        slices,
                        resizes,
                        flip_steps,
                        *pads,
                        [dict(type='PackDetInputs', meta_keys=META_KEYS)],
                    ],
                ),
            ]
        )
        batch.append(pipeline(dict(img=image, img_id=index)))
    return pseudo_collate(batch)


def load_file(pipeline, image, path):
    """Views of an image file by a pipeline as it stands in a config."""
    mmcv.imwrite(image, str(path))
    results = dict(
        img_path=str(path),
        img_id=0,
        height=image.shape[0],
        width=image.shape[1],
        instances=[],
    )
    return pseudo_collate([Compose(pipeline)(results)])


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


def give_proposals(data):
    """Put the same 20 random boxes of each image into all its views."""
    for view in data['data_samples']:
        torch.manual_seed(0)
        for sample in view:
            corners = torch.rand(20, 2, 2).sort(dim=1).values
            corners = corners * torch.tensor(sample.ori_shape[::-1])
            corners -= torch.tensor(sample.slice_window[:2])
            boxes = corners * torch.tensor(sample.scale_factor)
            sample.proposals = InstanceData(
                bboxes=boxes.reshape(20, 4), scores=torch.rand(20)
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


TOOLS = SimpleNamespace(
    build_fgl_detector=build_fgl_detector,
    build_detector=build_detector,
    view_batch=view_batch,
    load_file=load_file,
    plain_batch=plain_batch,
    make_images=make_images,
    OracleRoIHead=OracleRoIHead,
    assert_same=assert_same,
    plain=plain,
    tta=tta,
    record_rois=record_rois,
    give_proposals=give_proposals,
)


@pytest.fixture
def tools():
    """Builders of detectors, images and views, in mmdet's scope."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield TOOLS
