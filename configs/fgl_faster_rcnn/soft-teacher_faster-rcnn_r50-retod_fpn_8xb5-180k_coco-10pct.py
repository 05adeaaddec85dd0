# Soft Teacher (arXiv 2106.09018) of mmdet around Faster R-CNN, R50-FPN,
# started from 100 epochs of ReToD, 10 % of the labels of COCO train2017.
#   bash tools/dist_train.sh configs/fgl_faster_rcnn/\
#       soft-teacher_faster-rcnn_r50-retod_fpn_8xb5-180k_coco-10pct.py 8
# Splits: tools/dataset_converters/split_coco.py --percent 10 --unlabelled.
# Cost and AP on val2017: not yet measured.
_base_ = [
    'mmdet::_base_/models/faster-rcnn_r50_fpn.py',
    '../_base_/datasets/semi_coco_detection.py',
    '../_base_/schedules/coco_lengths.py',
    '../_base_/det_runtime.py',
]

detector = _base_.model
# every layer is trained; BatchNorm keeps the statistics of the pretraining,
# because a GPU sees a single labelled image
detector.backbone.update(frozen_stages=-1, init_cfg=None)
detector.data_preprocessor.non_blocking = True
model = dict(
    _delete_=True,
    type='SoftTeacher',
    detector=detector,
    data_preprocessor=dict(
        type='MultiBranchDataPreprocessor',
        data_preprocessor=detector.data_preprocessor,
    ),
    semi_train_cfg=dict(
        freeze_teacher=True,
        sup_weight=1.0,
        unsup_weight=4.0,
        pseudo_label_initial_score_thr=0.5,
        rpn_pseudo_thr=0.9,
        cls_pseudo_thr=0.9,
        reg_pseudo_thr=0.02,
        jitter_times=10,
        jitter_scale=0.06,
        min_pseudo_bbox_wh=(1e-2, 1e-2),
    ),
    semi_test_cfg=dict(predict_on='teacher'),
)
labeled_dataset = _base_.labeled_dataset
labeled_dataset.ann_file = 'annotations/instances_train2017.1@10.json'
unlabeled_dataset = _base_.unlabeled_dataset
unlabeled_dataset.ann_file = (
    'annotations/instances_train2017.1@10-unlabeled.json'
)
unlabeled_dataset.data_prefix = dict(img='train2017/')
train_dataloader = dict(
    pin_memory=True,
    dataset=dict(datasets=[labeled_dataset, unlabeled_dataset]),
)
max_iters = 180000
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=max_iters, val_interval=5000
)
val_cfg = dict(type='TeacherStudentValLoop')
test_cfg = dict(type='TestLoop')
param_scheduler = [
    _base_.warm_up,
    dict(
        _base_.steps,
        by_epoch=False,
        end=max_iters,
        milestones=[120000, 160000],
    ),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001),
)
load_from = 'work_dirs/retod_r50-fpn_8xb64-100e_coco/epoch_100.pth'
custom_hooks = [
    *_base_.guards,
    # the teacher starts as the student, with its BatchNorm statistics
    dict(type='MeanTeacherHook', skip_buffer=False),
    dict(
        type='mmfgl.CheckpointChainHook',
        modules=['student.backbone', 'student.neck', 'student.rpn_head'],
        revise_keys=[('^', 'student.')],
    ),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=10000, max_keep_ckpts=2)
)
log_processor = dict(by_epoch=False)
