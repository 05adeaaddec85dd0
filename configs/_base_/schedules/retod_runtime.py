# What every pretraining run needs: teacher, reports, guards, scope.
_base_ = 'mmpretrain::_base_/default_runtime.py'

# A run can be stopped and resumed to the bit; a NaN never reaches the
# weights; a collapse is reported (action='stop': ends the run).
run_guards = [
    dict(type='mmfgl.ExactResumeHook'),
    dict(type='mmfgl.NonFiniteGuardHook', action='skip', max_skips=5),
    dict(type='mmfgl.CollapseMonitorHook', action='warn'),
]
custom_hooks = [
    dict(type='mmfgl.TeacherHook', momentum=0.996, export='teacher'),
    dict(type='mmfgl.UnreadableImageHook'),
    *run_guards,
]
# A kill or a full disk while saving leaves the last checkpoint whole.
default_hooks = dict(checkpoint=dict(type='mmfgl.AtomicCheckpointHook'))
