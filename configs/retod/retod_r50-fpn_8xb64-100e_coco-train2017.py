# ReToD, R50-FPN, 100 epochs of COCO train2017 alone, for comparison with
# methods that do not use unlabeled2017.
#   bash tools/dist_train.sh \
#       configs/retod/retod_r50-fpn_8xb64-100e_coco-train2017.py 8
# Cost and downstream AP: not yet measured.
_base_ = './retod_r50-fpn_8xb64-100e_coco.py'

train_dataloader = dict(
    dataset=dict(datasets=_base_.train_dataloader.dataset.datasets[:1])
)
