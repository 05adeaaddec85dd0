# ReToD of FGL Faster R-CNN, ConvNeXt-T of timm with FPN, 100 epochs of COCO
# train2017 + unlabeled2017.
#   bash tools/dist_train.sh \
#       configs/retod/retod_convnext-t-fpn_8xb64-100e_coco.py 8
# Add --amp on GPUs. Region file: see configs/_base_/datasets/coco_regions.py.
# Cost and downstream AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_convnext-t_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/coco_regions.py',
    '../_base_/schedules/retod_100e.py',
    '../_base_/retod_runtime.py',
]

detector = _base_.model
detector.backbone.update(pretrained=False, drop_path_rate=0.0)
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, _base_.distill, _base_.mask, _base_.diversity],
    head=_base_.prototype_head,
    target_generator=_base_.ema_teacher,
)
sync_bn = 'torch'
custom_hooks = [
    *_base_.guards,
    dict(type='mmfgl.TeacherHook', momentum=0.996, export='teacher'),
    _base_.collapse_monitor,
    dict(_base_.region_probe, branch='teacher'),
]
