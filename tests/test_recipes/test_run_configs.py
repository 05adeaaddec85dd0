import ast
import shutil

import mmdet.datasets  # noqa: F401
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from mmengine.registry import VISUALIZERS, DefaultScope

from mmfgl.recipes.budget import Length
from mmfgl.recipes.configs import ConfigWriter
from mmfgl.recipes.photos import write_photos
from mmfgl.testing.configs import read_config
from mmfgl.utils.paths import installed

NAMES = ('data', 'pretrain', 'imagenet', 'retod')


def write(dataset, out, flip=True, seconds=None):
    length = Length(30, seconds)
    writer = ConfigWriter(dataset, out, flip)
    write_photos(dataset, out)
    writer.data()
    writer.pretrain(length, photos=8, clusters=16)
    writer.detector('imagenet', length)
    writer.detector('retod', length, 'pretrain/iter_30.pth')
    return writer


@pytest.fixture(scope='module')
def written(dataset, tmp_path_factory):
    writer = write(dataset, tmp_path_factory.mktemp('run'))
    return {name: writer.path(name) for name in NAMES}


@pytest.fixture(scope='module')
def configs(written):
    return {n: read_config(p) for n, p in written.items() if n != 'data'}


@pytest.mark.parametrize('name', NAMES)
def test_a_config_is_short_and_states_its_commands(name, written):
    text = written[name].read_text()
    assert text.startswith('# ') and '{{' not in text.replace('{{ file', '')
    code = [line for line in text.splitlines() if not line.startswith('#')]
    assert len(code) < 75 and max(map(len, code)) < 90
    assert name == 'data' or f'train.py configs/{name}.py' in text
    bases = Config._get_base_files(str(written[name]))
    for base in bases:
        scope, _, path = base.rpartition('mmfgl::')
        assert scope == '' and (
            base == './data.py' or installed('configs', path).is_file()
        )
    assert ast.parse(text)


@pytest.mark.parametrize('name', ['imagenet', 'retod'])
def test_the_detector_builds(name, configs):
    cfg = configs[name]
    assert cfg.model.roi_head.bbox_head.num_classes == 10
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
        train = DATASETS.build(cfg.train_dataloader.dataset)
        val = DATASETS.build(cfg.test_dataloader.dataset)
    assert type(model).__name__ == 'FGLFasterRCNN'
    assert len(train) == 6 and len(val) == 3
    assert train.metainfo['classes'] == tuple('0123456789')
    assert len(train[0]['data_samples'].gt_instances) > 0
    assert val[0]['inputs'].shape[0] == 3


def test_the_pretraining_builds(configs, written):
    cfg = configs['pretrain']
    scope = DefaultScope.overwrite_default_scope(cfg.default_scope)
    with scope, torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert type(model).__name__ == 'ReToD'
    teacher = "'{{ fileDirname }}/../weights/efficientnet-lite2_imagenet.pth'"
    assert teacher in written['pretrain'].read_text()
    kinds = [type(task).__name__ for task in model.tasks.values()]
    assert kinds == ['ObjectnessTask', 'DenseDistillTask']
    assert model.roi_head.bbox_head.num_classes == 16
    # of a base that is read by its name, for which MMEngine sets the scope
    assert cfg.visualizer.type == 'UniversalVisualizer'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        visualizer = VISUALIZERS.build(
            dict(cfg.visualizer, _scope_='mmfgl', name='of a named base')
        )
    assert type(visualizer).__module__.startswith('mmpretrain.')


def test_both_detectors_differ_in_their_start_alone(configs):
    first, second = (configs[name].to_dict() for name in ('imagenet', 'retod'))
    differing = {k for k in first if first[k] != second[k]}
    assert differing == {'load_from', 'custom_hooks'}
    assert second['load_from'].endswith('configs/../pretrain/iter_30.pth')


def test_a_moved_folder_reads_its_own_files(written, tmp_path):
    there = tmp_path / 'there'
    shutil.copytree(written['data'].parents[1], there)
    cfg = read_config(there / 'configs/retod.py')
    for path in (cfg.load_from, cfg.train_dataloader.dataset.ann_file):
        assert path.startswith(str(there))


def test_images_are_mirrored_unless_told_otherwise(configs, dataset, tmp_path):
    writer = write(dataset, tmp_path, flip=False)
    plain = {n: read_config(writer.path(n)) for n in NAMES if n != 'data'}

    def flips(cfg):
        return [
            step
            for step in cfg.train_dataloader.dataset.pipeline
            if step['type'] == 'RandomFlip'
            or step.get('flip_prob', 0.5)
            and step['type'] == 'mmfgl.RegionViews'
        ]

    for name in ('pretrain', 'imagenet'):
        assert flips(configs[name]) and not flips(plain[name])
    views = [cfg['imagenet'].tta_pipeline[1] for cfg in (configs, plain)]
    assert [len(view['transforms'][1]) for view in views] == [2, 1]


def test_a_budget_of_seconds(dataset, tmp_path):
    writer = write(dataset, tmp_path, seconds=600.5)
    for name in ('pretrain', 'imagenet', 'retod'):
        cfg = read_config(writer.path(name))
        (hook,) = [
            h for h in cfg.custom_hooks if h['type'] == 'mmfgl.BudgetHook'
        ]
        assert hook['seconds'] == 600.5
        assert cfg.train_cfg.val_interval > 30
        assert not cfg.get('param_scheduler')
