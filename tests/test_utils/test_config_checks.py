import logging
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader

from mmfgl.testing import tiny_retod_cfg
from mmfgl.utils import config_checks
from mmfgl.utils.config_checks import (
    check_data_root,
    check_launcher,
    check_loader,
    check_options,
    check_wrapper,
    closest,
)
from mmfgl.utils.launch import build_runner

TORCHRUN = dict(
    RANK='1',
    WORLD_SIZE='2',
    LOCAL_RANK='1',
    LOCAL_WORLD_SIZE='2',
    MASTER_ADDR='127.0.0.1',
    MASTER_PORT='29500',
    TORCHELASTIC_RUN_ID='none',
)
SLURM = dict(SLURM_PROCID='3', SLURM_NTASKS='4', SLURM_LOCALID='3')
STARTERS = dict(pytorch='dist_train.sh', slurm='slurm_train.sh', mpi='mpirun')


@pytest.fixture
def environ(monkeypatch):
    """Sets variables; those of launchers are gone at first."""
    names = {*TORCHRUN, *SLURM}
    for launcher in config_checks.RANK_VARIABLES.values():
        names.update(launcher)
    for name in names:
        monkeypatch.delenv(name, raising=False)

    def update(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return update


@pytest.fixture
def gpus(monkeypatch):
    def show(number):
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: number > 0)
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: number)

    return show


@pytest.mark.parametrize('launcher', list(STARTERS))
def test_launcher_without_its_variables(environ, launcher):
    check_launcher('none')
    with pytest.raises(ValueError, match=STARTERS[launcher]) as error:
        check_launcher(launcher)
    for name in config_checks.RANK_VARIABLES[launcher]:
        assert name in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('missing', ['RANK', 'MASTER_ADDR', 'MASTER_PORT'])
def test_launcher_names_what_is_missing(environ, missing):
    environ(**{k: v for k, v in TORCHRUN.items() if k != missing})
    with pytest.raises(ValueError, match=f'but {missing} are not set'):
        check_launcher('pytorch')


@pytest.mark.parametrize(
    'wrong', [dict(RANK='2'), dict(RANK='one'), dict(LOCAL_RANK='-1')], ids=str
)
def test_ranks_that_would_hang(environ, wrong):
    environ(**TORCHRUN)
    check_launcher('pytorch')
    environ(**wrong)
    with pytest.raises(
        ValueError, match=f'{[*wrong][0]}={[*wrong.values()][0]}'
    ):
        check_launcher('pytorch')


def test_more_processes_than_gpus(environ, gpus):
    environ(**TORCHRUN)
    gpus(0)  # gloo
    check_launcher('pytorch')
    gpus(2)
    check_launcher('pytorch')
    gpus(1)
    with pytest.raises(ValueError, match='2 processes .* 1 GPUs .*start 1 '):
        check_launcher('pytorch')
    # before the processes with a GPU wait for those without
    environ(RANK='0', LOCAL_RANK='0')
    with pytest.raises(ValueError, match='2 processes'):
        check_launcher('pytorch')
    # a task of Slurm that sees its own GPU alone
    environ(**SLURM)
    check_launcher('slurm')


def test_teacher_under_fsdp():
    wrapper = dict(type='MMFullyShardedDataParallel')
    cfg = Config(dict(model=tiny_retod_cfg(), model_wrapper_cfg=wrapper))
    with pytest.raises(ValueError, match='EMA teacher .* take model_wrapper'):
        build_runner(cfg)
    for name in ('FSDPStrategy', 'DeepSpeedStrategy'):
        other = Config(dict(model=cfg.model, strategy=dict(type=name)))
        with pytest.raises(ValueError, match='EMA teacher .* take strategy'):
            check_wrapper(other)
    cfg.model = tiny_retod_cfg('objectness')
    check_wrapper(cfg)
    cfg = Config(dict(model=tiny_retod_cfg(), model_wrapper_cfg=None))
    check_wrapper(cfg)


def test_torchrun_without_launcher(environ):
    environ(**TORCHRUN)
    with pytest.raises(ValueError, match='--launcher pytorch'):
        check_launcher('none')
    environ(WORLD_SIZE='1')
    check_launcher('none')


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
        config_checks, 'print_log', lambda text, **kw: lines.append((text, kw))
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


def loader(images, batch_size, sampler=DefaultSampler, ranks=1, **options):
    data = list(range(images))
    sampler = sampler(data)
    if ranks > 1:
        sampler.num_samples = -(-images // ranks)
    return DataLoader(data, batch_size, sampler=sampler, **options)


@pytest.mark.parametrize('ranks', [1, 4])
def test_batch_larger_than_the_data_set(monkeypatch, ranks):
    monkeypatch.setattr(config_checks, 'get_world_size', lambda: ranks)
    most = -(-8 // ranks)
    check_loader(loader(8, most, ranks=ranks, drop_last=True))
    check_loader(loader(8, 64, ranks=ranks, drop_last=False))
    check_loader(loader(8, 64, InfiniteSampler, drop_last=True))
    with pytest.raises(ValueError, match='takes 64 images') as error:
        check_loader(loader(8, 64, ranks=ranks, drop_last=True))
    text = str(error.value)
    assert f'at most {most}' in text and 'has 8 ' in text
    assert ('each of 4 ranks, 256 in all' in text) == (ranks > 1)


def test_batch_of_a_batch_sampler():
    sampler = DefaultSampler(range(8))
    batches = BatchSampler(sampler, batch_size=9, drop_last=True)
    with pytest.raises(ValueError, match='takes 9 images'):
        check_loader(DataLoader(range(8), batch_sampler=batches))


def test_our_configs_are_allowed():
    folder = Path(__file__).parents[2] / 'configs'
    for path in list(folder.glob('*/*_aquarium.py'))[:2]:
        check_options(Config.fromfile(path), None)


@pytest.mark.parametrize(
    ('dataset', 'fits'),
    [
        (dict(data_root='nowhere/'), False),
        (dict(ann_file='nowhere/annotations/train.json'), False),
        (dict(datasets=[dict(data_prefix=dict(img='nowhere'))]), False),
        (dict(root='elsewhere/', ann_file='nowhere.json'), True),
    ],
)
def test_data_root_that_is_read_must_exist(dataset, fits):
    cfg = Config(dict(data_root='nowhere/'))
    cfg.train_dataloader = dict(dataset=dataset)
    if fits:
        check_data_root(cfg)
        return
    with pytest.raises(FileNotFoundError, match='data_root=DIR'):
        check_data_root(cfg)
