# A part, for the FGL detectors beside this file: the RoI head that takes the
# place of the plain one. Variables, read as _base_.fgl_roi_head.
fgl_roi_head = dict(
    type='mmfgl.FGLRoIHead',
    bbox_roi_extractor=dict(
        type='mmfgl.FGLRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
        out_channels=256,
        featmap_strides=[4, 8, 16, 32],
    ),
    tokenizer=dict(
        type='mmfgl.RegionTokenizer',
        in_channels=256,
        embed_dims=512,
        squeeze_channels=48,
    ),
    transformer=dict(
        type='mmfgl.RegionTransformer',
        embed_dims=512,
        num_heads=8,
        num_encoder_layers=1,
        num_decoder_layers=1,
        attention_dims=256,
        ffn_ratio=1.0,
    ),
    attention=dict(low=0.1, high=1.0),
    selector=dict(type='mmfgl.CandidateSelector', num_targets=None),
    bbox_head=dict(
        type='mmfgl.FGLBBoxHead',
        in_channels=512,
        num_classes=80,
        reg_class_agnostic=True,
        quality_weight=0.15,
        voting_iou=0.6,
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0
        ),
        loss_bbox=dict(type='L1Loss', loss_weight=1.0),
    ),
)
# Modules that a ReToD checkpoint of the same detector must load completely:
# all but the classes.
pretrained_modules = [
    'backbone',
    'neck',
    'rpn_head',
    'roi_head.bbox_roi_extractor',
    'roi_head.tokenizer',
    'roi_head.transformer',
    'roi_head.bbox_head.fc_reg',
    'roi_head.bbox_head.fc_quality',
]
