# mmdet's data set of that name, evaluated to a number whatever is found.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

val_evaluator = dict(type='mmfgl.DefinedCocoMetric')
test_evaluator = val_evaluator
