"""Tiny models for tests: a training step takes milliseconds.

Every ``type`` names its scope: the configs build under any default scope.
"""

import warnings
from contextlib import suppress

import torch
from mmengine.config import ConfigDict
from torch import nn

CHANNELS = 16  # of the pyramid and of the tokens
ROI_LAYER = dict(type='RoIAlign', output_size=3, sampling_ratio=2)


def tiny_backbone_cfg() -> dict:
    """ResNet-18, an eighth as wide as usual: 8 to 64 channels."""
    return dict(
        type='mmdet.ResNet',
        depth=18,
        base_channels=8,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        norm_cfg=dict(type='BN', requires_grad=True),
        norm_eval=False,
    )


def tiny_neck_cfg() -> dict:
    """FPN of 16 channels with strides 4 to 32."""
    return dict(
        type='mmdet.FPN',
        in_channels=[8, 16, 32, 64],
        out_channels=CHANNELS,
        num_outs=4,
    )


def _roi_head(selector: dict, bbox_head: dict) -> dict:
    """FGL RoI head: tokens of width 16 from 3x3 cells."""
    return dict(
        type='mmfgl.FGLRoIHead',
        bbox_roi_extractor=dict(
            type='mmfgl.FGLRoIExtractor',
            roi_layer=dict(ROI_LAYER),
            out_channels=CHANNELS,
            featmap_strides=[4, 8, 16, 32],
            finest_scale=12,
        ),
        tokenizer=dict(
            type='mmfgl.RegionTokenizer',
            in_channels=CHANNELS,
            roi_feat_size=3,
            embed_dims=CHANNELS,
            squeeze_channels=8,
        ),
        transformer=dict(
            type='mmfgl.RegionTransformer', embed_dims=CHANNELS, num_heads=2
        ),
        attention=dict(low=0.1, high=1.0),
        selector=selector,
        bbox_head=bbox_head,
    )


def tiny_fgl_cfg(
    num_classes: int = 3,
    num_targets: int | None = None,
    selector: dict | None = None,
    bbox_head: dict | None = None,
    **changes,
) -> ConfigDict:
    """FGL Faster R-CNN for images of about 64 x 96 pixels.

    ``selector`` and ``bbox_head`` are further arguments of these two parts;
    ``changes`` are entries of the detector to replace or add.
    """
    roi_head = _roi_head(
        selector=dict(
            type='mmfgl.CandidateSelector',
            num_targets=num_targets,
            **(selector or {}),
        ),
        bbox_head=dict(
            type='mmfgl.FGLBBoxHead',
            in_channels=CHANNELS,
            num_classes=num_classes,
            **{'reg_class_agnostic': True, **(bbox_head or {})},
        ),
    )
    cfg = dict(
        type='mmfgl.FGLFasterRCNN',
        data_preprocessor=dict(
            type='mmdet.DetDataPreprocessor',
            mean=[127.5] * 3,
            std=[64.0] * 3,
            pad_size_divisor=32,
        ),
        backbone=tiny_backbone_cfg(),
        neck=tiny_neck_cfg(),
        rpn_head=dict(
            type='mmdet.RPNHead',
            in_channels=CHANNELS,
            feat_channels=CHANNELS,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator',
                scales=[4],
                ratios=[0.5, 1.0],
                strides=[4, 8, 16, 32],
            ),
        ),
        roi_head=roi_head,
        train_cfg=_train_cfg(),
        test_cfg=_test_cfg(),
    )
    cfg.update(changes)
    return ConfigDict(cfg)


def _train_cfg() -> dict:
    def stage(iou: float, num: int, add_gt: bool) -> dict:
        return dict(
            assigner=dict(
                type='mmdet.MaxIoUAssigner',
                pos_iou_thr=iou,
                neg_iou_thr=iou,
                min_pos_iou=iou,
                match_low_quality=not add_gt,
            ),
            sampler=dict(
                type='mmdet.RandomSampler',
                num=num,
                pos_fraction=0.5,
                add_gt_as_proposals=add_gt,
            ),
            pos_weight=-1,
        )

    return dict(
        rpn=dict(allowed_border=-1, **stage(0.5, 32, add_gt=False)),
        rpn_proposal=_test_cfg()['rpn'],
        rcnn=stage(0.5, 16, add_gt=True),
    )


def _test_cfg() -> dict:
    return dict(
        rpn=dict(
            nms_pre=50,
            max_per_img=20,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            score_thr=0.0,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=10,
        ),
    )


def half_dtypes() -> list[torch.dtype]:
    """bf16 and, where autocast of this PyTorch's CPUs knows it, fp16."""
    eye, known = torch.eye(2), False
    # where it does not, entering raises or a warning tells
    with warnings.catch_warnings(), suppress(RuntimeError):
        warnings.simplefilter('ignore')
        with torch.autocast('cpu', torch.float16):
            known = (eye @ eye).dtype == torch.float16
    return [torch.bfloat16] + [torch.float16] * known


def randomise_weights(
    module: nn.Module, std: float = 0.3, seed: int = 0
) -> nn.Module:
    """Draw every parameter of a module at random, in place.

    Attention and feed-forward layers start as the identity and box layers
    close to zero, so that a fresh model would pass many tests of what its
    parts read whatever they read. The global generator is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for param in module.parameters():
            param.copy_(torch.randn(param.shape, generator=generator) * std)
    return module


def assert_trained(module: nn.Module, loss: torch.Tensor) -> None:
    """Backpropagate; every parameter must get a finite gradient."""
    assert loss.isfinite()
    loss.backward()
    for name, param in module.named_parameters():
        assert param.grad is not None, name
        assert param.grad.isfinite().all(), name
