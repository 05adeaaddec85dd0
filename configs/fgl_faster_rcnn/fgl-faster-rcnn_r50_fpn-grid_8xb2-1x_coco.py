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
    # Squares fit few objects well: the best ones of an object count as it.
    train_cfg=dict(
        _delete_=True,
        rcnn=dict(
            _base_.fgl_train_cfg.rcnn,
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.2,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
        ),
    ),
    test_cfg=dict(_delete_=True, rcnn=_base_.fgl_test_cfg.rcnn),
)
