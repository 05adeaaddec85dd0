# A detector's training of some hundred iterations, for a CPU: beside a
# schedule of schedules/.
_base_ = './det_runtime.py'

val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=100, max_keep_ckpts=2),
)
log_processor = dict(window_size=10, by_epoch=False)
randomness = dict(seed=0)
