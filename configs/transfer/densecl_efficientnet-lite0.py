# DenseCL (arXiv 2011.09157) of MMPretrain as an arm of
#   python tools/benchmarks/transfer.py --arms densecl --init imagenet ...
# Published: densecl_resnet50_8xb32-coslr-200e_in1k.py, which is MoCo v2 with
# another neck and loss; scaled as the MoCo v2 arm that this inherits.
_base_ = './mocov2_efficientnet-lite0.py'

model = dict(
    type='DenseCL',
    loss_lambda=0.5,
    neck=dict(
        _delete_=True,
        type='DenseCLNeck',
        in_channels=320,
        hid_channels=2048,
        out_channels=128,
        num_grid=None,
    ),
)
