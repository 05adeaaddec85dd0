from math import inf
from pathlib import Path

import pytest
import torch
from mmdet.models.roi_heads import (
    CascadeRoIHead,
    GenericRoIExtractor,
    GridRoIHead,
    MaskScoringRoIHead,
    MultiInstanceRoIHead,
    TridentRoIHead,
)
from mmengine.config import Config
from mmengine.registry import MODELS

from mmfgl.models.test_time_augs import RoITTAModel, RoITTAOptions

BASES = Path(__file__).parents[3] / 'configs' / '_base_' / 'tta'


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(mode='view'), "mode must be one of .* got 'view'"),
        (dict(proposals='all'), 'proposals must be one of'),
        (dict(score_fusion='median'), 'score_fusion must be one of'),
        (dict(box_fusion='mean'), 'box_fusion must be one of'),
        (dict(mask_fusion='max'), 'mask_fusion must be one of'),
        (dict(reference='first'), 'reference must be one of'),
        (dict(reference=(320,)), 'reference must be one of'),
        (dict(score_fusion='weighted'), 'needs scale_weights or a flip'),
        (dict(scale_weights=[1, 2]), "need score_fusion='weighted'"),
        (dict(flip_weight=0.5), "need score_fusion='weighted'"),
        (
            dict(score_fusion='weighted', scale_weights=[1, -1]),
            'must be >= 0',
        ),
        (dict(score_fusion='weighted', scale_weights=[0, 0]), 'some scale'),
        (dict(size_ranges=(64, 32)), 'is empty'),
        (dict(size_ranges=[(0, 32, 64)]), 'one pair a scale'),
        (dict(size_ranges=(0, 32), mode='pyramid'), 'there is one view'),
        (dict(level_shifts=[1]), 'holds 0'),
        (dict(level_shifts=[0, 1, 1]), 'no shift twice'),
        (dict(level_shifts='next'), "must be 'nearest' or a list"),
        (
            dict(
                mode='pyramid', score_fusion='weighted', scale_weights=[1, 2]
            ),
            'one weight in scale_weights for each, got .nearest. and',
        ),
        (dict(rescore_thr=1.5), 'rescore_thr must lie'),
        (dict(neighbour_iou=0), 'neighbour_iou must lie'),
        (dict(vote_iou=-1), 'vote_iou in'),
        (dict(tta_cfg=dict(iou=0.5)), r"got also \['iou'\]"),
    ],
    ids=str,
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        RoITTAOptions(**options)


def test_size_ranges_are_parsed():
    assert RoITTAOptions(size_ranges=(None, 64)).size_ranges == [(0, 64)]
    ranges = RoITTAOptions(size_ranges=[[0, 32], [16, None]]).size_ranges
    assert ranges == [(0, 32), (16, inf)]


def test_values_per_scale_must_fit_the_views(tools):
    data = tools.view_batch(tools.make_images(), [None, (50, 50)])
    for options in (
        dict(size_ranges=[(0, 9), (0, 9), (0, 9)]),
        dict(score_fusion='weighted', scale_weights=[1]),
    ):
        model = RoITTAModel(tools.build_detector(), **options)
        with pytest.raises(ValueError, match='2 scales: give one a scale'):
            model.test_step(data)


def test_detectors_that_do_not_fit(tools):
    with pytest.raises(TypeError, match='StandardRoIHead'):
        RoITTAModel(MODELS.build(dict(type='mmdet.RetinaNet', **RETINA)))
    for head in (
        CascadeRoIHead,
        GridRoIHead,
        MultiInstanceRoIHead,
        TridentRoIHead,
    ):
        detector = tools.build_detector()
        detector.roi_head.__class__ = head
        with pytest.raises(TypeError, match=f'got {head.__name__}. For'):
            RoITTAModel(detector)
    detector = tools.build_detector(masks=True)
    detector.roi_head.__class__ = MaskScoringRoIHead
    with pytest.raises(ValueError, match="mask_fusion='reference'"):
        RoITTAModel(detector)
    RoITTAModel(detector, mask_fusion='reference')
    detector = tools.build_detector()
    detector.rpn_head = None
    with pytest.raises(ValueError, match="use 'reference'"):
        RoITTAModel(detector, proposals='merged')
    detector = tools.build_detector()
    detector.roi_head.bbox_roi_extractor.__class__ = GenericRoIExtractor
    with pytest.raises(ValueError, match='got GenericRoIExtractor'):
        RoITTAModel(detector, mode='pyramid')


RETINA = dict(
    backbone=dict(type='mmdet.ResNet', depth=18),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[64, 128, 256, 512],
        out_channels=8,
        num_outs=5,
    ),
    bbox_head=dict(
        type='mmdet.RetinaHead', num_classes=3, in_channels=8, feat_channels=8
    ),
)


def test_merging_finished_predictions_is_refused(tools):
    model = RoITTAModel(tools.build_detector())
    with pytest.raises(NotImplementedError, match='DetTTAModel'):
        model.merge_preds([])


@pytest.mark.parametrize(
    'name, views, mode',
    [
        ('flip', 2, 'views'),
        ('scales', 3, 'views'),
        ('scales_flip', 6, 'views'),
        ('pyramid', 1, 'pyramid'),
    ],
)
def test_ready_made_bases(tools, tmp_path, name, views, mode):
    """Each base serves a config of another size and any detector."""
    (tmp_path / 'config.py').write_text(
        f'_base_ = [{str(BASES / (name + ".py"))!r}]\n'
        'tta_pipeline = _base_.tta_pipeline\n'
        'tta_pipeline[1].transforms[0] = [\n'
        "    dict(type='Resize', scale=(side, side), keep_ratio=True)\n"
        f'    for side in (64, 80, 100)[:{1 if views < 3 else 3}]\n'
        ']\n'
    )
    cfg = Config.fromfile(tmp_path / 'config.py')
    assert set(cfg) == {'tta_model', 'tta_pipeline'}
    image = tools.make_images()[0]
    data = tools.load_file(cfg.tta_pipeline, image, tmp_path / 'image.png')
    assert len(data['inputs']) == views
    model = MODELS.build(dict(module=tools.build_detector(), **cfg.tta_model))
    assert model.options.mode == mode
    (result,) = model.test_step(data)
    found = result.pred_instances.bboxes
    assert len(found) > 0
    limits = torch.tensor(result.ori_shape[::-1] * 2)
    assert (found >= 0).all() and (found <= limits + 1e-3).all()
