# Objectness training of ReToD for the small family: see retod_objectness.py.
_base_ = './fgl_rcnn_small.py'

retod_objectness = dict(train_cfg=_base_.fgl_train_cfg)
retod_bbox_head = dict(**_base_.fgl_bbox_head)
retod_bbox_head.update(num_classes=1)
