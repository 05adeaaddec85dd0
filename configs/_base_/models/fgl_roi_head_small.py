# The same on the small family's FPN-64 from stride 8.
_base_ = './fgl_roi_head.py'

fgl_roi_head = dict(
    bbox_roi_extractor=dict(
        out_channels=64, featmap_strides=[8, 16, 32], finest_scale=56
    ),
    tokenizer=dict(in_channels=64, squeeze_channels=None),
)
