# Submission to the COCO test-dev server (or, with another ann_file, any set of
# images without labels): writes the detections as one JSON. The checkpoint of
# any schedule will do.
#   bash tools/dist_test.sh configs/fgl_faster_rcnn/\
#       fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco-test-dev.py CHECKPOINT 8
# Cost and AP on test-dev: not yet measured.
_base_ = './fgl-faster-rcnn_r50-retod_fpn_8xb2-1x_coco.py'

# 20,288 of the 40,670 images in test2017/, as the server wants them
ann_file = 'annotations/image_info_test-dev2017.json'
test_pipeline = [
    step for step in _base_.test_pipeline if step['type'] != 'LoadAnnotations'
]
test_dataloader = dict(
    dataset=dict(
        ann_file=ann_file,
        data_prefix=dict(img='test2017/'),
        pipeline=test_pipeline,
    )
)
# writes OUTFILE_PREFIX.bbox.json; the server takes it as
# detections_test-dev2017_<name>_results.json, zipped
test_evaluator = dict(
    ann_file=_base_.data_root + ann_file,
    format_only=True,
    outfile_prefix='work_dirs/coco_test-dev/detections',
)
