"""Texts of the configs of a run, for ``str.format``."""

DATA = """\
# The data of this run, as imagenet.py and retod.py read them.
# Where the photographs lie elsewhere, on a cluster say, change data_root.
_base_ = 'mmfgl::_base_/datasets/aquarium_detection.py'

data_root = {root!r}
annotations = '{here}/data/annotations/'
metainfo = dict(
    classes=(
{classes}
    )
){pipelines}
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file=annotations + 'train.json',
        data_prefix=dict(img={train!r}),{pipeline}
    )
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file=annotations + 'val.json',
        data_prefix=dict(img={val!r}),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=annotations + 'val.json')
test_evaluator = val_evaluator
"""
# a mirrored object is of another class
NO_FLIP = """
train_pipeline = [
    _base_.load_image,
    _base_.load_boxes,
    _base_.resize,
    dict(type='PackDetInputs'),
]
tta_pipeline = [
    _base_.tta_load,
    dict(
        type='TestTimeAug',
        transforms=[
            _base_.tta_scales,
            _base_.tta_no_flip,
            *_base_.tta_ending,
        ],
    ),
]"""
PRETRAIN = """\
# ReToD pretraining of FGL Faster R-CNN on {photos} photographs, without
# labels: objectness on {regions}
# and distillation of the maps of EfficientNet-Lite2. In the folder above:
#   {train}
# Expected: {cost}; the AP that it leads to is in ../results.json.
_base_ = [
    '{fgl}',
    'mmfgl::_base_/models/retod_tasks.py',
    'mmfgl::_base_/models/lite2_teacher.py',
    'mmfgl::_base_/datasets/region_views.py',
    'mmfgl::_base_/transfer_runtime.py',
]

data_root = {root!r}
num_clusters = {clusters}
objects = dict(
    type='mmfgl.FileRegions',
    ann_file='{here}/data/regions.json',
    max_regions=10,
)
one_view = dict(
    _base_.one_view,
    view_size=224,{flip}
    object_proposer=objects,
    max_objects=10,
)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data_root=data_root,
        ann_file='{here}/data/pretraining.txt',
        data_prefix=dict(img_path=''),
        pipeline=[_base_.load_image, one_view, _base_.pack_views],
    ),
)

detector = _base_.model
detector.roi_head.bbox_head.num_classes = num_clusters
teacher = dict(
    _base_.frozen_teacher,
    init_cfg=dict(
        type='Pretrained',
        checkpoint='{here}/weights/efficientnet-lite2_imagenet.pth',
    ),
)
dense = dict(
    _base_.dense,
    teacher=teacher,
    backbone=[(40, 0), (112, 1), (320, 2)],
    neck=[(64, 0), (64, 1), (64, 2)],
)
model = dict(
    _delete_=True,
    type='mmfgl.ReToD',
    detector=detector,
    tasks=[_base_.objectness, dense],
)
load_from = '{here}/weights/efficientnet-lite0_imagenet.pth'

max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval=max_iters + 1)
default_hooks = dict(
    logger=dict(interval={log}),
    checkpoint=dict(interval={save}),
)
custom_hooks = [
    *_base_.guards,
    {budget},
    dict(type='mmfgl.CheckpointChainHook', modules=['backbone']),
    _base_.channels_last,
    _base_.frozen_stem,
]
"""
DETECTOR = """\
# FGL Faster R-CNN {start}. In the folder above:
#   {train}
#   {test}
# On N GPUs: bash tools/dist_train.sh THIS_FILE N --work-dir DIR (of a clone).
# Expected: {cost}; the AP of this run is in ../results.json.
_base_ = [
    '{fgl}',
    './data.py',
    'mmfgl::_base_/schedules/adamw_400.py',
    'mmfgl::_base_/det_iters.py',
]

model = dict(roi_head=dict(bbox_head=dict(num_classes={num_classes})))
max_iters = {iters}
train_cfg = dict(max_iters=max_iters, val_interval={val_interval})
param_scheduler = []  # BudgetHook anneals
default_hooks = dict(
    logger=dict(interval={log}),
    checkpoint=dict(interval={save}),
)
load_from = '{here}/{load_from}'
custom_hooks = [
    *_base_.guards,
    {budget},
    dict(type='mmfgl.CheckpointChainHook', modules={modules}),
    _base_.channels_last,
    _base_.frozen_stem,
]
"""
