# The same, with the detector's RPN and box head trained on boxes of selective
# search (pseudo ground truth), which are the regions as well: at their edges
# the offset of a jittered box can be seen, at those of random boxes it cannot.
#   python tools/train.py configs/retod/\
#       retod_efficientnet-lite0-fpn-objectness_1xb8-400_aquarium.py
# Needs opencv-contrib-python. A detector may declare rpn_head and
# roi_head.bbox_head.fc_reg, fc_quality as loaded modules too.
# Cost and downstream AP: not yet measured.
_base_ = [
    './retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py',
    '../_base_/models/retod_objectness_small.py',
]

model = dict(
    rpn_head=_base_.fgl_rpn_head,
    objectness=_base_.retod_objectness,
    roi_head=dict(bbox_head=_base_.retod_bbox_head),
)
search = dict(type='mmfgl.SelectiveSearchRegions', mode='single')
region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[1].update(max_objects=30)
# update() would merge the two proposers' settings
region_views_pipeline[1]['proposer'] = search
region_views_pipeline[1]['object_proposer'] = search
train_dataloader = dict(dataset=dict(pipeline=region_views_pipeline))
