# ReToD, adapting ImageNet weights to the unlabelled digit scenes by the
# objectness task alone, 200 iterations: the pretraining of `make quickstart`.
#   python tools/dataset_converters/digit_scenes.py
#   python tools/model_converters/efficientnet_lite0.py
#   python tools/dataset_converters/propose_regions.py \
#       data/digit_scenes/unlabelled \
#       --out data/digit_scenes/annotations/unlabelled_regions.json \
#       --workers 2 --clusters 64 \
#       --cfg-options mode=single max_regions=15 --features \
#       configs/retod/retod_efficientnet-lite0-fpn_1xb8-400_aquarium.py \
#       checkpoints/efficientnet-lite0_imagenet.pth
#   python tools/train.py configs/retod/\
#       retod_efficientnet-lite0-fpn_1xb8-200_digit-scenes.py
_base_ = './retod_efficientnet-lite0-fpn_1xb8_transfer.py'

data_root = 'data/digit_scenes/'
proposals = data_root + 'annotations/unlabelled_regions.json'
region_views_pipeline = _base_.region_views_pipeline
# a mirrored digit is no digit
region_views_pipeline[1].update(view_size=224, flip_prob=0.0)
region_views_pipeline[1]['object_proposer']['ann_file'] = proposals
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        data_root=data_root,
        data_prefix=dict(img_path='unlabelled/'),
        pipeline=region_views_pipeline,
    ),
)
max_iters = 200
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
default_hooks = dict(checkpoint=dict(interval=max_iters))
