# ReToD, R50-FPN, 100 epochs of COCO train2017 + unlabeled2017 on two nodes of
# 8 GPUs: twice the batch, twice the learning rate. NODE_RANK is 0 and 1:
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=HOST PORT=29500 \
#   bash tools/dist_train.sh \
#       configs/retod/retod_r50-fpn_16xb64-100e_coco.py 8
# Cost and downstream AP: not yet measured.
_base_ = './retod_r50-fpn_8xb64-100e_coco.py'

optim_wrapper = dict(optimizer=dict(lr=2e-3))
auto_scale_lr = dict(base_batch_size=1024)
