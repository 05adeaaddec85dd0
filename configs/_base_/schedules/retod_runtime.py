# What every pretraining run needs: teacher, reports, scope.
_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_hooks = [
    dict(type='mmfgl.TeacherHook', momentum=0.996, export='teacher'),
    dict(type='mmfgl.UnreadableImageHook'),
]
