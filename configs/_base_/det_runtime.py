# What every detector's training needs, beside mmdet's own runtime.
_base_ = 'mmdet::_base_/default_runtime.py'

# A run can be stopped and resumed to the bit; a NaN never reaches the
# weights; an image that cannot be read is replaced (in testing: has no
# detections) and reported. A config with further hooks lists these first.
guards = [
    dict(type='mmfgl.ExactResumeHook'),
    dict(type='mmfgl.NonFiniteGuardHook', max_skips=5),
    dict(type='mmfgl.UnreadableImageHook'),
]
custom_hooks = guards
# A kill or a full disk while saving leaves the last checkpoint whole; half an
# hour is the most that one costs. On a stop, tools/train.py saves anyway.
default_hooks = dict(
    checkpoint=dict(type='mmfgl.AtomicCheckpointHook', interval_minutes=30),
    # weights that fill less than the config declares stop the run, whatever
    # tool runs it
    load=dict(type='mmfgl.StrictLoadHook'),
    # what testing with a folder for pictures draws
    visualization=dict(type='mmfgl.PictureHook', score_thr=0.3),
)
# Seconds after which a rank that waits for another gives up.
env_cfg = dict(dist_cfg=dict(timeout=1800))
