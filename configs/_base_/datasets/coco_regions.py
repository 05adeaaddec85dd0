# COCO train2017 + unlabeled2017 for pretraining; no label is read.
_base_ = './region_views.py'

data_root = 'data/coco/'
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ConcatDataset',
        datasets=[
            dict(
                type='mmfgl.UnlabelledImages',
                data_root=data_root,
                data_prefix=dict(img_path=folder),
                pipeline=_base_.region_views_pipeline,
            )
            for folder in ('train2017/', 'unlabeled2017/')
        ],
    ),
)
