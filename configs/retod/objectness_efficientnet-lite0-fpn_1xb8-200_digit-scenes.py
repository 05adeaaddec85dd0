# Objectness pretraining of FGL Faster R-CNN, from ImageNet weights, on the
# unlabelled digit scenes, 200 iterations.
#   python tools/dataset_converters/digit_scenes.py
#   python tools/model_converters/efficientnet_lite.py
#   python tools/dataset_converters/propose_regions.py \
#       data/digit_scenes/unlabelled \
#       --out data/digit_scenes/annotations/unlabelled_regions.json \
#       --workers 2 --clusters 64 --cfg-options mode=single max_regions=15 \
#       --teacher THIS_FILE checkpoints/efficientnet-lite0_imagenet.pth
#   python tools/train.py configs/retod/\
#       objectness_efficientnet-lite0-fpn_1xb8-200_digit-scenes.py
# Cost and downstream AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/digit_scenes_regions.py',
    '../_base_/transfer_runtime.py',
]

detector = _base_.model
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
)
load_from = 'checkpoints/efficientnet-lite0_imagenet.pth'
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
default_hooks = dict(checkpoint=dict(interval=max_iters // 4))
custom_hooks = [
    *_base_.guards,
    _base_.region_probe,
    _base_.budget,
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
    _base_.frozen_stem,
]
