# A part, for pretraining configs: EfficientNet-Lite2, ImageNet weights, as the
# region teacher, whose embeddings of the boxes propose_regions.py keeps in the
# region file, and the task that learns them. Write the weights with
#   python tools/model_converters/efficientnet_lite.py --variant 2 \
#       --out checkpoints/efficientnet-lite2_imagenet.pth
region_teacher = dict(
    model='tf_efficientnet_lite2',
    weights='checkpoints/efficientnet-lite2_imagenet.pth',
)
embed = dict(
    type='mmfgl.RegionEmbeddingTask',
    region_file='{proposals}',
    in_channels=1024,
    out_channels=128,
)
