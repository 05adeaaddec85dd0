# Objectness training of ReToD: the detector's own box head (class-agnostic)
# and training config, beside fgl_rpn_head of the model base. To use as
#   model = dict(
#       rpn_head=_base_.fgl_rpn_head,
#       objectness=_base_.retod_objectness,
#       roi_head=dict(
#           **_base_.fgl_region_encoder, bbox_head=_base_.retod_bbox_head))
# on data with pseudo ground truth (fields objects, object_labels).
_base_ = './fgl_rcnn.py'

retod_objectness = dict(train_cfg=_base_.fgl_train_cfg)
# one pseudo-class; of the detector's head only fc_cls has another shape
retod_bbox_head = dict(**_base_.fgl_bbox_head)
retod_bbox_head.update(num_classes=1)
