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
    check_parts,
    check_wrapper,
)
from mmfgl.utils.launch import build_runner
from mmfgl.utils.paths import installed

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


@pytest.mark.parametrize(
    ('kind', 'name'),
    [
        ('InfiniteSampler', 'InfiniteSampler'),
        ('mmfgl.CompactInfiniteSampler', 'CompactInfiniteSampler'),
        (type('Endless', (InfiniteSampler,), {}), 'Endless'),
        ('mmdet.GroupMultiSourceSampler', 'GroupMultiSourceSampler'),
    ],
    ids=str,
)
def test_epochs_on_an_endless_sampler(kind, name):
    file = 'retod_r50-fpn_8xb64-100e_coco.py'
    cfg = Config.fromfile(installed('configs', 'retod', file))
    cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
    check_parts(cfg)
    cfg.train_dataloader.sampler.type = kind
    with pytest.raises(ValueError, match=f'the {name} of'):
        check_parts(cfg)
