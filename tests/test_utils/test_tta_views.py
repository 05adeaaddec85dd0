"""Test-time augmentation of a test, of the config or ready-made."""

import pytest
from mmengine.config import Config

from mmfgl.utils.tta_views import set_tta


@pytest.fixture
def cfg():
    """Test data of two parts, at other scales."""
    resizes = [
        dict(type='mmdet.Resize', scale=(160, 80)),
        dict(type='Resize', scale=(400, 300), keep_ratio=True),
    ]
    parts = [
        dict(pipeline=[dict(type='LoadImageFromFile'), resize])
        for resize in resizes
    ]
    data = dict(type='ConcatDataset', datasets=parts)
    own = dict(type='RoITTAModel', _scope_='mmfgl', voting_iou=0.5)
    return Config(
        dict(
            model=dict(type='FasterRCNN'),
            tta_model=own,
            tta_pipeline=['own'],
            test_dataloader=dict(dataset=data),
        )
    )


def pipelines(cfg):
    return [x.pipeline for x in cfg.test_dataloader.dataset.datasets]


def choices(pipeline):
    """Steps of TestTimeAug, and the scales and flips among them."""
    (augmentation,) = (s for s in pipeline if s['type'] == 'TestTimeAug')
    steps = [step for some in augmentation.transforms for step in some]
    scales = [s.scale for s in steps if s['type'] == 'Resize']
    flips = [s.prob for s in steps if s['type'] == 'RandomFlip']
    return steps, scales, flips


def test_of_the_config(cfg):
    set_tta(cfg)
    assert pipelines(cfg) == [['own'], ['own']]
    assert cfg.model.module == dict(type='FasterRCNN')
    assert cfg.model.voting_iou == 0.5
    for key in ('tta_model', 'tta_pipeline'):
        lacking = Config({**cfg.to_dict(), key: None})
        with pytest.raises(ValueError, match=f'`{key}` .*--views, of flip, '):
            set_tta(lacking)


@pytest.mark.parametrize(
    'views, scales, flips',
    [
        ('flip', [(400, 300)], [0, 1]),
        ('scales', [(320, 240), (400, 300), (500, 375)], [0]),
        ('scales_flip', [(320, 240), (400, 300), (500, 375)], [0, 1]),
        ('slices', [(400, 300)], [0]),
        ('pyramid', [(400, 300)], [0]),
    ],
)
def test_ready_made_at_the_scale_of_each_data_set(cfg, views, scales, flips):
    set_tta(cfg, views)
    first, second = pipelines(cfg)
    steps, found, probabilities = choices(second)
    assert (found, probabilities) == (scales, flips)
    assert all(s.keep_ratio for s in steps if s['type'] == 'Resize')
    steps, found, _ = choices(first)
    assert found[len(found) // 2] == (160, 80)
    assert not any(s.get('keep_ratio') for s in steps)
    assert cfg.model.module == dict(type='FasterRCNN')
    # the config's options are of mode 'views'
    pyramid = views == 'pyramid'
    assert cfg.model.mode == ('pyramid' if pyramid else 'views')
    assert cfg.model.get('voting_iou') == (None if pyramid else 0.5)


def test_ready_made_without_any_of_the_config(cfg):
    cfg.pop('tta_model'), cfg.pop('tta_pipeline')
    set_tta(cfg, 'flip')
    assert cfg.model.type == 'mmfgl.RoITTAModel'


def test_a_square(cfg):
    pipelines(cfg)[1][1].scale = 300
    set_tta(cfg, 'scales')
    assert choices(pipelines(cfg)[1])[1] == [
        (240, 240),
        (300, 300),
        (375, 375),
    ]


def test_no_test_scale(cfg):
    pipelines(cfg)[1].pop()
    with pytest.raises(ValueError, match="'flip' need a test pipeline with"):
        set_tta(cfg, 'flip')
