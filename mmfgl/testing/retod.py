"""Tiny ReToD around tiny detectors."""

from mmengine.config import ConfigDict

from mmfgl.testing.models import CHANNELS, ROI_LAYER, tiny_fgl_cfg

PLAIN_WIDTH = 24  # of the plain detector's shared layers
TASKS = dict(
    objectness=dict(type='mmfgl.ObjectnessTask'),
    distill=dict(type='mmfgl.RegionDistillTask'),
    mask=dict(type='mmfgl.MaskedRegionTask', embed_dims=CHANNELS),
    diversity=dict(type='mmfgl.DiversityTask', floor=1.0),
)


def tiny_plain_detector_cfg(num_classes: int = 3) -> ConfigDict:
    """Plain Faster R-CNN of mmdet with a class-agnostic box layer."""
    return tiny_fgl_cfg(
        type='mmdet.FasterRCNN',
        roi_head=dict(
            type='mmdet.StandardRoIHead',
            bbox_roi_extractor=dict(
                type='mmdet.SingleRoIExtractor',
                roi_layer=dict(ROI_LAYER),
                out_channels=CHANNELS,
                featmap_strides=[4, 8, 16, 32],
                finest_scale=12,
            ),
            bbox_head=dict(
                type='mmdet.Shared2FCBBoxHead',
                in_channels=CHANNELS,
                fc_out_channels=PLAIN_WIDTH,
                roi_feat_size=3,
                num_classes=num_classes,
                reg_class_agnostic=True,
            ),
        ),
    )


def tiny_retod_cfg(
    *tasks: str,
    detector: dict | None = None,
    targets: str = 'sinkhorn',
    **changes,
) -> ConfigDict:
    """ReToD of a tiny detector, by default FGL's, with 12 prototypes.

    ``tasks`` are any of 'objectness', 'distill', 'mask' and 'diversity', by
    default the middle two; all but the first bring prototypes and EMA
    teacher. ``targets`` is the mode of :class:`RegionTargets`, ``changes``
    are arguments of :class:`ReToD` to replace or add.
    """
    tasks = tasks or ('distill', 'mask')
    detector = detector or tiny_fgl_cfg(num_classes=1)
    cfg = dict(
        type='mmfgl.ReToD',
        detector=detector,
        tasks=[dict(TASKS[name]) for name in tasks],
    )
    if set(tasks) != {'objectness'}:
        plain = 'FGL' not in detector['type']
        cfg['target_generator'] = dict(type='mmfgl.EMATeacher')
        cfg['head'] = dict(
            type='mmfgl.PrototypeHead',
            projector=dict(
                type='mmfgl.RegionProjector',
                in_channels=PLAIN_WIDTH if plain else CHANNELS,
                hidden_channels=24,
                out_channels=16,
                num_prototypes=12,
            ),
            targets=dict(type='mmfgl.RegionTargets', mode=targets),
        )
    cfg.update(changes)
    return ConfigDict(cfg)
