# The same on the small family's FPN-64 from stride 8.
_base_ = './plain_roi_head.py'

plain_roi_head = dict(
    bbox_roi_extractor=dict(out_channels=64, featmap_strides=[8, 16, 32]),
    bbox_head=dict(in_channels=64),
)
