# FGL Faster R-CNN without an RPN: candidates are the squares of a multi-scale
# grid (224 px the middle cell), about 1,700 in an image of 800 x 1333.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/fgl-faster-rcnn_r50_fpn-grid_8xb2-1x_coco.py 8
# Cost and AP on val2017: not yet measured.
_base_ = './fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py'

model = dict(
    rpn_head=None,
    region_proposer=dict(
        type='mmfgl.GridRegions', cell_sizes=(56, 112, 224, 448)
    ),
    train_cfg=dict(
        # what belongs to the RPN
        rpn=None,
        rpn_proposal=None,
        # Squares fit few objects well: the best ones of an object count as it.
        rcnn=dict(assigner=dict(min_pos_iou=0.2, match_low_quality=True)),
    ),
    test_cfg=dict(rpn=None),
)
