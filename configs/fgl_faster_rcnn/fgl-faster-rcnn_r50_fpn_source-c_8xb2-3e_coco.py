# Source recipe, step c: fine-tuning of the classifier alone at 1e-4, all else
# frozen, from the checkpoint of step b. Step d is the test with --tta.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50_fpn_source-c_8xb2-3e_coco.py 8
#   bash tools/dist_test.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50_fpn_source-c_8xb2-3e_coco.py \
#       work_dirs/fgl-faster-rcnn_r50_fpn_source-c_8xb2-3e_coco/epoch_3.pth \
#       8 --tta
# AP: not yet measured.
_base_ = './fgl-faster-rcnn_r50-retod_fpn_source-b_8xb2-1x_coco.py'

load_from = (
    'work_dirs/fgl-faster-rcnn_r50-retod_fpn_source-b_8xb2-1x_coco/'
    'epoch_12.pth'
)
custom_hooks = [
    dict(type='mmfgl.CheckpointChainHook', modules=_base_.source_all_modules),
    _base_.source_freeze_hook,
]
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = _base_.param_scheduler
param_scheduler[0].update(end=max_epochs, T_max=max_epochs)
