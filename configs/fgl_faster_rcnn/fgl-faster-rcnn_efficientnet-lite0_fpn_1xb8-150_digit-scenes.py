# FGL Faster R-CNN from ImageNet weights on digit scenes, 150 iterations: the
# fine-tuning without pretraining of `make quickstart`.
#   python tools/dataset_converters/digit_scenes.py
#   python tools/model_converters/efficientnet_lite0.py
#   python tools/train.py configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-150_digit-scenes.py
_base_ = './fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=10)))
data_root = 'data/digit_scenes/'
metainfo = dict(classes=('0', '1', '2', '3', '4', '5', '6', '7', '8', '9'))
# a mirrored digit is no digit: no flip
train_pipeline = [t for t in _base_.train_pipeline if t.type != 'RandomFlip']
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=train_pipeline
    )
)
# nor in test-time augmentation
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[1] = [dict(type='RandomFlip', prob=0.0)]
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
# a short run needs large steps, and gentler ones for pretrained weights
optim_wrapper = dict(
    optimizer=dict(lr=1.5e-3),
    paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.3))),
)
max_iters = 150
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_iters, T_max=max_iters - 30)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters))
