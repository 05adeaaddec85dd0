# A part, for the small family beside this file: FPN-64 from stride 8, fewer
# proposals and samples, for quickstart, tests and experiments on a CPU.
small_detector = dict(
    neck=dict(out_channels=64, num_outs=4),
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[2, 4], strides=[8, 16, 32, 64]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, featmap_strides=[8, 16, 32]),
        bbox_head=dict(in_channels=64),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=800, max_per_img=400),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=800, max_per_img=300), rcnn=dict(score_thr=0.01)
    ),
)
# Depthwise and narrow convolutions are faster so on a CPU.
channels_last = dict(type='mmfgl.ChannelsLastHook')
