"""Tiny models that share their localisation: objectness and plain detector."""

from mmengine.config import ConfigDict

from mmfgl.testing.models import CHANNELS, tiny_fgl_cfg, tiny_retod_cfg


def tiny_objectness_cfg(num_classes: int = 1, **changes) -> ConfigDict:
    """ReToD that trains RPN and box head of :func:`tiny_fgl_cfg` as well.

    Args:
        num_classes: Number of pseudo-classes.
        **changes: Arguments of :func:`tiny_retod_cfg`.

    Returns:
        Config of :class:`mmfgl.models.selfsup.ReToD`.
    """
    detector = tiny_fgl_cfg(num_classes=num_classes)
    parts = dict(
        roi_head=detector.roi_head,
        rpn_head=detector.rpn_head,
        objectness=dict(train_cfg=detector.train_cfg),
    )
    return tiny_retod_cfg(**{**parts, **changes})


def tiny_plain_detector_cfg(num_classes: int = 3) -> ConfigDict:
    """Plain Faster R-CNN of mmdet with a class-agnostic box layer.

    Args:
        num_classes: Number of classes.

    Returns:
        Config of :class:`mmdet.models.FasterRCNN`.
    """
    cfg = tiny_fgl_cfg(
        type='mmdet.FasterRCNN',
        roi_head=dict(
            type='mmdet.StandardRoIHead',
            bbox_roi_extractor=dict(
                type='mmdet.SingleRoIExtractor',
                roi_layer=dict(
                    type='RoIAlign', output_size=3, sampling_ratio=2
                ),
                out_channels=CHANNELS,
                featmap_strides=[4, 8, 16, 32],
                finest_scale=12,
            ),
            bbox_head=dict(
                type='mmdet.Shared2FCBBoxHead',
                in_channels=CHANNELS,
                fc_out_channels=24,
                roi_feat_size=3,
                num_classes=num_classes,
                reg_class_agnostic=True,
            ),
        ),
    )
    return cfg


def tiny_plain_retod_cfg(
    num_classes: int = 1, objectness: bool = True, **changes
) -> ConfigDict:
    """ReToD of the modules of :func:`tiny_plain_detector_cfg`.

    Args:
        num_classes: Number of pseudo-classes.
        objectness: Train RPN and box head as well.
        **changes: Arguments of :func:`tiny_retod_cfg`.

    Returns:
        Config of :class:`mmfgl.models.selfsup.ReToD`.
    """
    detector = tiny_plain_detector_cfg(num_classes)
    parts = dict(
        roi_head=dict(
            detector.roi_head,
            type='mmfgl.PlainRegionHead',
            transformer=dict(
                type='mmfgl.RegionTransformer',
                embed_dims=CHANNELS,
                num_heads=2,
            ),
            attention=dict(low=0.1, high=1.0),
        )
    )
    if objectness:
        parts.update(
            rpn_head=detector.rpn_head,
            objectness=dict(train_cfg=detector.train_cfg),
        )
    return tiny_retod_cfg(**{**parts, **changes})
