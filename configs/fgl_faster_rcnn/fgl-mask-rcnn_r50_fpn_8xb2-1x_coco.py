# FGL Mask R-CNN: FGL Faster R-CNN with the mask branch of Mask R-CNN, R50-FPN
# from ImageNet weights, COCO 1x. Box and mask AP from one run.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-mask-rcnn_r50_fpn_8xb2-1x_coco.py 8
# Cost and box and mask AP on val2017: not yet measured.
_base_ = [
    './fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py',
    '../_base_/models/mask_branch.py',
]

model = dict(
    data_preprocessor=dict(pad_mask=True),
    roi_head=_base_.mask_branch,
    train_cfg=dict(rcnn=dict(mask_size=28)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
for step in (*train_pipeline, *test_pipeline):
    if step['type'] == 'LoadAnnotations':
        step['with_mask'] = True
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = val_evaluator
