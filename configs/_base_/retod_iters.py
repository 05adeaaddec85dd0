# A pretraining of some hundred iterations, for a CPU: beside a schedule of
# schedules/.
_base_ = './retod_runtime.py'

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=2),
)
log_processor = dict(type='LogProcessor', window_size=10, by_epoch=False)
randomness = dict(seed=0)
