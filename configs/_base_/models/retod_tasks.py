# A part, for pretraining configs: the tasks of ReToD and what they need. To
# use as
#   detector = _base_.model
#   detector.roi_head.bbox_head.num_classes = NUMBER_OF_PSEUDO_CLASSES
#   model = dict(
#       _delete_=True, type='mmfgl.ReToD', detector=detector, tasks=[...])
objectness = dict(type='mmfgl.ObjectnessTask')
# for its argument of this name; needs ema_teacher
teacher_boxes = dict(start=0.3, num=5, score_thr=0.5, iou_thr=0.5)
# the next three need prototype_head, ema_teacher and views of an image
distill = dict(type='mmfgl.RegionDistillTask', loss_weight=1.0)
# needs the region Transformer of FGL besides
mask = dict(
    type='mmfgl.MaskedRegionTask', mask_ratio=(0.1, 0.5), loss_weight=1.0
)
diversity = dict(type='mmfgl.DiversityTask', floor=0.8)
prototype_head = dict(
    type='mmfgl.PrototypeHead',
    projector=dict(
        type='mmfgl.RegionProjector',
        in_channels=512,
        hidden_channels=1024,
        out_channels=256,
        num_prototypes=4096,
    ),
    targets=dict(
        type='mmfgl.RegionTargets', mode='sinkhorn', temperature=0.03
    ),
)
ema_teacher = dict(type='mmfgl.EMATeacher')
