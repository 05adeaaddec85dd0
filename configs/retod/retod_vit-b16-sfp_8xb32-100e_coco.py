# ReToD of FGL Faster R-CNN, ViT-B/16 with a simple feature pyramid, 100
# epochs of COCO train2017 + unlabeled2017: objectness and dense distillation
# of DINOv2.
#   bash tools/dist_train.sh \
#       configs/retod/retod_vit-b16-sfp_8xb32-100e_coco.py 8
# Add --amp on GPUs. Region file: see configs/_base_/datasets/coco_regions.py;
# the teacher's weights: configs/_base_/models/dinov2_teacher.py.
# Cost and downstream AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_vit-b16_sfp.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/models/dinov2_teacher.py',
    '../_base_/datasets/coco_regions.py',
    '../_base_/schedules/retod_100e.py',
    '../_base_/retod_runtime.py',
]

detector = _base_.model
detector.backbone.drop_path_rate = 0.0
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
# half of detection's: a view shows part of an image
detector.train_cfg.rcnn.sampler.num = 256
detector.train_cfg.rpn_proposal.update(nms_pre=1000, max_per_img=500)
dense = dict(
    _base_.dense,
    loss_weight=20.0,  # random weights have more to learn
    backbone=[(768, 2)],
    neck=[None, (256, 0), (256, 1), (256, 2)],
)
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, dense],
)
train_dataloader = dict(batch_size=32)
sync_bn = 'torch'
optim_wrapper = dict(
    optimizer=dict(lr=5e-4, betas=(0.9, 0.95)),
    paramwise_cfg=dict(
        custom_keys=dict(
            cls_token=dict(decay_mult=0.0), pos_embed=dict(decay_mult=0.0)
        ),
    ),
)
param_scheduler = [
    dict(_base_.warm_up, end=10),
    dict(_base_.annealing, begin=10, T_max=_base_.max_epochs - 10),
]
auto_scale_lr = dict(base_batch_size=256)
custom_hooks = [*_base_.guards, _base_.region_probe]
