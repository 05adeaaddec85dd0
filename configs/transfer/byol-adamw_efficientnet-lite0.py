# The same with the optimizer of the ReToD arm. The published learning rates
# are made for hundreds of epochs; in some minutes they move little.
#   python tools/benchmarks/transfer.py --arms byol-adamw ...
_base_ = './byol_efficientnet-lite0.py'

optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
custom_hooks = _base_.custom_hooks
custom_hooks[0]['warmup'] = 0.05
