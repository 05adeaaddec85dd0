# Plain Faster R-CNN, the baseline beside the FGL config that it inherits. With
# mmdet's RoI head FGLFasterRCNN is FasterRCNN, but knows layer depths.
#   bash tools/dist_train.sh \
#       configs/fgl_faster_rcnn/faster-rcnn_vit-b16-mae_sfp_8xb2-1x_coco.py 8
# Add --amp on GPUs: attention is global, and in half precision it takes the
# memory-saving kernel.
# Cost and AP on val2017: not yet measured.
_base_ = [
    './fgl-faster-rcnn_vit-b16-mae_sfp_8xb2-1x_coco.py',
    '../_base_/models/plain_roi_head.py',
]

model = dict(roi_head=dict(_delete_=True, **_base_.plain_roi_head))
