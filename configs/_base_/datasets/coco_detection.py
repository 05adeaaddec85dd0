# mmdet's data set of that name, evaluated to a number whatever is found.
# Batches reach a GPU while it works: from pinned memory here, without a wait
# by data_preprocessor.non_blocking of the models.
_base_ = 'mmdet::_base_/datasets/coco_detection.py'

train_dataloader = dict(pin_memory=True)
val_dataloader = dict(pin_memory=True)
test_dataloader = dict(pin_memory=True)
val_evaluator = dict(type='mmfgl.DefinedCocoMetric')
test_evaluator = val_evaluator
