# The same, with the detector's RPN and box head trained on boxes of selective
# search (pseudo ground truth), which are the regions as well.
#   bash tools/dist_train.sh \
#       configs/retod/retod_r50-fpn-objectness_8xb64-100e_coco.py 8
# The search takes longer than the rest of the pipeline: precompute its boxes
# with tools/dataset_converters/propose_regions.py and set
# search = dict(type='mmfgl.FileRegions', ann_file=...).
# Needs opencv-contrib-python. Cost and downstream AP: not yet measured.
_base_ = [
    './retod_r50-fpn_8xb64-100e_coco.py',
    '../_base_/models/retod_objectness.py',
]

model = dict(
    rpn_head=_base_.fgl_rpn_head,
    objectness=_base_.retod_objectness,
    roi_head=dict(bbox_head=_base_.retod_bbox_head),
)
search = dict(type='mmfgl.SelectiveSearchRegions', mode='single')
region_views_pipeline = _base_.region_views_pipeline
region_views_pipeline[1].update(jitter=0.25)
# update() would merge the two proposers' settings
region_views_pipeline[1]['proposer'] = search
region_views_pipeline[1]['object_proposer'] = search
train_dataloader = dict(
    dataset=dict(
        datasets=[
            dict(
                type='mmfgl.UnlabelledImages',
                data_root=_base_.data_root,
                data_prefix=dict(img_path=folder),
                pipeline=region_views_pipeline,
            )
            for folder in ('train2017/', 'unlabeled2017/')
        ]
    )
)
