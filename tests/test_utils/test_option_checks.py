import logging
from pathlib import Path

import pytest
from mmengine.config import Config

from mmfgl.utils import option_checks
from mmfgl.utils.option_checks import check_options, closest

CONFIG = """
scale = (320, 320)
test_pipeline = [dict(type='Resize', scale=scale)]
optim_wraper_cfg = dict(lr=1)
train_cfg = dict(max_epochs=3)
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=3)),
    test_cfg=dict(rcnn=dict(score_thr=0.05)),
)
custom_hooks = [dict(type='A', interval=1)]
default_hooks = dict(checkpoint=dict(interval=1))
data_root = 'data/'
"""


def config(tmp_path, extra=''):
    path = tmp_path / 'config.py'
    path.write_text(CONFIG + extra)
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('train_cgf', 'train_cfg'),
        ('optim_wraper', 'optim_wrapper'),
        ('load_form', 'load_from'),
        ('defualt_hooks', 'default_hooks'),
        ('val_evaluater', 'val_evaluator'),
        ('param_schedulars', 'param_scheduler'),
        ('workdir', 'work_dir'),
        ('resume_from', 'load_from=CHECKPOINT and resume=True'),
    ],
)
def test_misspelt_setting(tmp_path, name, meant):
    cfg = config(tmp_path, f'{name} = dict(type="x")\n')
    with pytest.raises(ValueError, match=f'sets {name}.* mean {meant}'):
        check_options(cfg, None)
    with pytest.raises(ValueError, match=f'{name}.* mean {meant}'):
        check_options(config(tmp_path), {f'{name}.type': 'x'})


def test_variables_of_a_config_are_allowed(tmp_path):
    check_options(config(tmp_path), None)
    # even of such a name, if the config reads them
    extra = 'default_hook = 1\ndefault_hooks = dict(checkpoint=default_hook)\n'
    check_options(config(tmp_path, extra), None)
    # and a config that is dumped has all variables, and reads none
    config(tmp_path).dump(tmp_path / 'dumped.py')
    check_options(Config.fromfile(tmp_path / 'dumped.py'), None)


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('train_cfg.max_epoch', 'mean max_epochs'),
        ('model.roi_head.bbox_head.num_clases', 'mean num_classes'),
        ('model.roi_haed.bbox_head.num_classes', 'mean roi_head'),
        ('model.test_cfg.rcnn.scor_thr', 'mean score_thr'),
        ('custom_hooks.0.intervall', 'mean interval'),
        ('modle.backbone.depth', 'mean model'),
        ('something', 'no config sets something'),
    ],
)
def test_options_that_nothing_reads(tmp_path, option, message):
    with pytest.raises(ValueError, match=message) as error:
        check_options(config(tmp_path), {option: 1})
    assert option in str(error.value) and '\n' not in str(error.value)


def test_options_that_are_read(tmp_path, caplog):
    options = [
        *('train_cfg.max_epochs', 'model.test_cfg.rcnn.nms.type'),
        *('optim_wrapper.clip_grad.max_norm', 'custom_hooks.0.interval'),
        *('load_from', 'amp', 'experiment_name', 'data_root'),
        *('default_hooks.visualization.score_thr', 'randomness.seed'),
    ]
    check_options(config(tmp_path), dict.fromkeys(options, 1))
    assert not caplog.records


def test_options_without_effect(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(
        option_checks, 'print_log', lambda text, **kw: lines.append((text, kw))
    )
    check_options(config(tmp_path), dict(scale=1))
    ((text, kwargs),) = lines
    assert 'scale is a variable' in text
    assert kwargs['level'] == logging.WARNING


def test_closest():
    known = ['conv1', 'interval', 'low', 'train_dataloader']
    assert closest('conv2', known) is None
    assert closest('loww', known) is None  # too short to tell
    assert closest('intreval', known) == 'interval'
    assert closest('train_datloadr', known) == 'train_dataloader'
    assert closest('test_pipeline', ['tta_pipeline', 'env_cfg']) is None


def test_our_configs_are_allowed():
    folder = Path(__file__).parents[2] / 'configs'
    for path in list(folder.glob('*/*_aquarium.py'))[:2]:
        check_options(Config.fromfile(path), None)
