# ReToD, R50-FPN, 400 epochs of COCO train2017 + unlabeled2017.
#   bash tools/dist_train.sh configs/retod/retod_r50-fpn_8xb64-400e_coco.py 8
# Cost and downstream AP: not yet measured.
_base_ = './retod_r50-fpn_8xb64-100e_coco.py'

max_epochs = 400
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].update(end=max_epochs, T_max=max_epochs - 5)
