# Data of the arms of tools/benchmarks/transfer.py that are MMPretrain's own:
# the augmentations that it publishes (_base_/datasets/imagenet_bs32_mocov2.py
# and _byol.py); the tool sets data and the size of the views. Crops of at
# least 20 % of the image (MoCo's choice) for BYOL too: 8 % of a small
# photograph is a few pixels.
crop = dict(type='RandomResizedCrop', scale=160, crop_ratio_range=(0.2, 1.0))
gray = dict(
    type='RandomGrayscale',
    prob=0.2,
    keep_channels=True,
    channel_weights=(0.114, 0.587, 0.2989),
)
blur = dict(
    type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf'
)
flip = dict(type='RandomFlip', prob=0.5)
jitter = dict(brightness=0.4, contrast=0.4, hue=0.1)
mocov2_view = [
    dict(backend='pillow', **crop),
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', saturation=0.4, **jitter)],
        prob=0.8,
    ),
    gray,
    dict(prob=0.5, **blur),
    flip,
]
byol_views = [
    [
        dict(backend='pillow', interpolation='bicubic', **crop),
        flip,
        dict(
            type='RandomApply',
            transforms=[dict(type='ColorJitter', saturation=0.2, **jitter)],
            prob=0.8,
        ),
        gray,
        dict(prob=blur_prob, **blur),
        dict(type='Solarize', thr=128, prob=solarize_prob),
    ]
    for blur_prob, solarize_prob in ((1.0, 0.0), (0.1, 0.2))
]
# LightlyTrain's published defaults (docs.lightly.ai, Distillation), but for
# crops of 14 % and a blur of at most 0.1 px.
distill_view = [
    dict(backend='pillow', **crop),
    flip,
    dict(
        type='RandomApply',
        transforms=[dict(type='ColorJitter', saturation=0.2, **jitter)],
        prob=0.8,
    ),
    gray,
]
load_image = dict(type='mmfgl.LoadCachedImage')
two_mocov2_views = dict(
    type='MultiView', num_views=2, transforms=[mocov2_view]
)
two_byol_views = dict(
    type='MultiView', num_views=[1, 1], transforms=byol_views
)
one_distill_view = dict(
    type='MultiView', num_views=1, transforms=[distill_view]
)
pack = dict(type='PackInputs')
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        _scope_='mmpretrain',
        type='mmfgl.UnlabelledImages',
        data_root='data/aquarium/',
        data_prefix=dict(img_path='train/'),
        pipeline=[load_image, two_mocov2_views, pack],
    ),
)
