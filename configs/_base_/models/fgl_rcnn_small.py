# Training and test configs of the small family: fewer proposals and samples.
_base_ = './fgl_rcnn.py'

fgl_train_cfg = dict(
    rpn_proposal=dict(nms_pre=800, max_per_img=400),
    rcnn=dict(sampler=dict(num=64)),
)
fgl_test_cfg = dict(
    rpn=dict(nms_pre=800, max_per_img=300),
    rcnn=dict(score_thr=0.01),
)
