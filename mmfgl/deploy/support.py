"""What can be exported, and what a runtime must know beside the graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules import AnchorGenerator, DeltaXYWHBBoxCoder
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config

from mmfgl.models.layers.masked_attention import MAX_SCORES
from mmfgl.models.roi_heads import FGLRoIHead

STEPS = ('LoadImageFromFile', 'Resize', 'LoadAnnotations', 'PackDetInputs')


def check_supported(detector: TwoStageDetector) -> None:
    """Refuse a detector that :class:`mmfgl.deploy.DetectorGraph` lacks.

    Raises:
        ValueError: Names every part that cannot be exported.
    """
    if reasons := '; '.join(_obstacles(detector)):
        raise ValueError(
            'only Faster R-CNN and FGL Faster R-CNN can be exported, with an '
            f'RPN, RoIAlign and plain NMS, but this detector has {reasons}'
        )


def _obstacles(detector: TwoStageDetector) -> Iterator[str]:
    """What speaks against the export of a detector."""
    if not isinstance(detector, TwoStageDetector):
        yield f'the type {type(detector).__name__}'
        return
    rpn, head = getattr(detector, 'rpn_head', None), detector.roi_head
    if type(rpn) is not RPNHead:
        proposer = getattr(detector, 'region_proposer', None)
        yield f'candidates of {type(proposer or rpn).__name__}, not of an RPN'
    elif not isinstance(rpn.prior_generator, AnchorGenerator):
        yield f'anchors of {type(rpn.prior_generator).__name__}'
    if type(head) not in (StandardRoIHead, FGLRoIHead):
        yield f'the RoI head {type(head).__name__}'
        return
    if head.with_mask:
        yield 'a mask head'
    if head.with_shared_head:
        yield 'a shared head'
    if head.bbox_head.custom_cls_channels:
        yield f'the loss {type(head.bbox_head.loss_cls).__name__}'
    for part in (rpn, head.bbox_head):
        coder = getattr(part, 'bbox_coder', None)
        if part is None:
            continue
        if type(coder) is not DeltaXYWHBBoxCoder:
            yield f'the box coder {type(coder).__name__}'
        elif not coder.clip_border:
            yield f'clip_border=False ({type(part).__name__})'
    extractor = head.bbox_roi_extractor
    if not isinstance(extractor, SingleRoIExtractor):
        yield f'the RoI extractor {type(extractor).__name__}'
    for layer in extractor.roi_layers:
        if not isinstance(layer, RoIAlign) or layer.pool_mode != 'avg':
            yield f'the RoI layer {type(layer).__name__}'
            break
    for name, module in detector.named_modules():
        compiled = type(module).__module__.startswith('mmcv.ops')
        if compiled and 'roi_layers' not in name:
            yield f'{type(module).__name__} ({name})'
    for stage in ('rpn', 'rcnn') if rpn is not None else ('rcnn',):
        cfg = dict(detector.test_cfg[stage].nms)
        if cfg.pop('type', 'nms') != 'nms' or set(cfg) != {'iou_threshold'}:
            yield f'test_cfg.{stage}.nms={dict(detector.test_cfg[stage].nms)}'
    if isinstance(head, FGLRoIHead):
        yield from _fgl_obstacles(detector)


def _fgl_obstacles(detector: TwoStageDetector) -> Iterator[str]:
    """What speaks against the export of an FGL RoI head."""
    head = detector.roi_head
    if head.selector.num_targets is not None:
        yield f'selector.num_targets={head.selector.num_targets}'
    if head.selector.mode == 'drop':
        yield "selector.mode='drop'"
    if head.transformer.geometry is not None:
        yield 'transformer.geometry_bias=True'
    count = detector.test_cfg.get('rpn', {}).get('max_per_img', 0)
    blocks = [*head.transformer.encoder, *head.transformer.decoder]
    for block in blocks[:1]:
        if block.attention.num_heads * count**2 > MAX_SCORES:
            yield f'too many candidates, test_cfg.rpn.max_per_img={count}'


def preprocessing(cfg: Config) -> dict[str, Any]:
    """How an image becomes the input of the network.

    Returns:
        ``scale`` (width, height) of the network's input, ``keep_ratio``
        (whether the image is fitted into it, or stretched to it), ``mean``
        and ``std`` of the three channels, ``rgb`` (whether their order is
        RGB, else BGR). Resizing is OpenCV's bilinear.

    Raises:
        ValueError: The config has no test pipeline, or one with steps of
            another kind.
    """
    if cfg.get('test_dataloader') is None:
        raise ValueError(
            'the config has no test_dataloader: give that of a detector, not '
            'of a pretraining'
        )
    settings: dict[str, Any] = {}
    for step in get_test_pipeline_cfg(cfg):
        name = step['type'].split('.')[-1]
        if name not in STEPS:
            raise ValueError(
                f'the test pipeline has the step {step["type"]}, which the '
                f'export does not know; it knows {", ".join(STEPS)}'
            )
        options = {k: v for k, v in step.items() if k != 'type'}
        if name == 'Resize':
            scale = options.pop('scale', None)
            keep_ratio = options.pop('keep_ratio', False)
            if scale is None or options or settings:
                raise ValueError(
                    'the export knows one Resize with scale and keep_ratio '
                    f'in the test pipeline, got {dict(step)}'
                )
            scale = (scale,) * 2 if isinstance(scale, int) else scale
            settings = dict(scale=list(scale), keep_ratio=keep_ratio)
        elif name == 'LoadImageFromFile':
            options.pop('backend_args', None)
            if options.pop('to_float32', False) or options:
                raise ValueError(
                    'the export knows LoadImageFromFile without options in '
                    f'the test pipeline, got {dict(step)}'
                )
    if not settings:
        raise ValueError('the test pipeline has no Resize')
    model = cfg.model.get('data_preprocessor') or {}
    if model.get('rgb_to_bgr'):
        raise ValueError('data_preprocessor.rgb_to_bgr cannot be exported')
    return dict(
        **settings,
        mean=list(model.get('mean') or [0.0] * 3),
        std=list(model.get('std') or [1.0] * 3),
        rgb=bool(model.get('bgr_to_rgb', False)),
    )
