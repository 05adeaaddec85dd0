# What every pretraining needs, beside MMPretrain's own runtime.
_base_ = 'mmpretrain::_base_/default_runtime.py'

# A run can be stopped and resumed to the bit; a NaN never reaches the
# weights; a damaged image is replaced and reported. A config with further
# hooks lists these first.
guards = [
    dict(type='mmfgl.ExactResumeHook'),
    dict(type='mmfgl.NonFiniteGuardHook', max_skips=5),
    dict(type='mmfgl.UnreadableImageHook'),
]
custom_hooks = guards
# For configs with an EMA teacher; action='stop' ends a collapsed run.
collapse_monitor = dict(type='mmfgl.CollapseMonitorHook', action='warn')
# A kill or a full disk while saving leaves the last checkpoint whole; half an
# hour is the most that one costs. On a stop, tools/train.py saves anyway.
default_hooks = dict(
    checkpoint=dict(
        type='mmfgl.AtomicCheckpointHook',
        interval_minutes=30,
        max_keep_ckpts=5,
    ),
    # weights that fill less than the config declares stop the run, whatever
    # tool runs it
    load=dict(type='mmfgl.StrictLoadHook'),
)
# MMPretrain's own, without the scope that inheritance adds: its
# browse_dataset.py takes all keys for arguments.
visualizer = dict(
    _delete_=True,
    type='UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend')],
)
# Seconds after which a rank that waits for another gives up.
env_cfg = dict(dist_cfg=dict(timeout=1800))
