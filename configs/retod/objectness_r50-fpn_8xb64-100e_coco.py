# Objectness pretraining of FGL Faster R-CNN, R50-FPN, 100 epochs of COCO
# train2017 + unlabeled2017, one view an image: ReToD without its teacher
# (compared in README.md beside this file).
#   bash tools/dist_train.sh \
#       configs/retod/objectness_r50-fpn_8xb64-100e_coco.py 8
# Region file: see configs/_base_/datasets/coco_regions.py.
# Cost and downstream AP: not yet measured.
_base_ = [
    '../_base_/models/fgl-faster-rcnn_r50_fpn.py',
    '../_base_/models/retod_tasks.py',
    '../_base_/datasets/coco_regions.py',
    '../_base_/schedules/retod_100e.py',
    '../_base_/retod_runtime.py',
]

detector = _base_.model
# from random weights: no frozen stage, trained BatchNorm statistics
detector.backbone.update(frozen_stages=-1, norm_eval=False, init_cfg=None)
detector.roi_head.bbox_head.num_classes = _base_.num_clusters
# half of detection's: a view shows part of an image
detector.train_cfg.rcnn.sampler.num = 256
detector.train_cfg.rpn_proposal.update(nms_pre=1000, max_per_img=500)
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness],
)
sync_bn = 'torch'
custom_hooks = [*_base_.guards, _base_.region_probe]
