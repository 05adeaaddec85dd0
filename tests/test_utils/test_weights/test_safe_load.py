"""Genuine checkpoints load; code that is hidden in one does not run."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from mmfgl.utils.weights import CheckpointError, safe_load
from tests.strangers import Call


class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.net(torch.stack(list(inputs))).square().mean())


class Images(torch.utils.data.Dataset):
    metainfo = dict(
        classes=('a', 'b'),
        palette=[(1, 2, 3)],
        sizes=np.arange(3),
        mean=np.float32(3),
        nested=ConfigDict(a=dict(b=1)),
    )

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.rand(3, 4, 4))


def optimizer(kind, **options):
    return dict(optim_wrapper=dict(optimizer=dict(type=kind, **options)))


def scheduler(kind, **options):
    return dict(param_scheduler=dict(type=kind, by_epoch=False, **options))


def ema(kind):
    return dict(custom_hooks=[dict(type='EMAHook', ema_type=kind)])


AMP = dict(
    type='mmfgl.CPUAmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=0.1),
    accumulative_counts=2,
    clip_grad=dict(max_norm=1),
)
ONE_CYCLE = dict(eta_max=0.1, total_steps=2)
RUNS = {
    **{
        name: optimizer(name, lr=0.01)
        for name in (
            *('SGD', 'Adam', 'AdamW', 'RMSprop', 'Adagrad', 'Adadelta'),
            *('Adamax', 'NAdam', 'RAdam', 'ASGD', 'Rprop'),
        )
    },
    'MultiStepLR': scheduler('MultiStepLR', milestones=[1]),
    'CosineAnnealingLR': scheduler('CosineAnnealingLR', T_max=2),
    'LinearLR': scheduler('LinearLR', start_factor=0.1, end=2),
    'StepLR': scheduler('StepLR', step_size=1),
    'ConstantLR': scheduler('ConstantLR'),
    'ExponentialLR': scheduler('ExponentialLR', gamma=0.9),
    'PolyLR': scheduler('PolyLR'),
    'OneCycleLR': scheduler('OneCycleLR', **ONE_CYCLE),
    'OneCycleLR linear': scheduler(
        'OneCycleLR', anneal_strategy='linear', **ONE_CYCLE
    ),
    'CosineRestartLR': scheduler(
        'CosineRestartLR', periods=[1, 1], restart_weights=[1, 1], eta_min=0
    ),
    'momentum': scheduler('CosineAnnealingMomentum', T_max=2),
    'EMA': ema('ExponentialMovingAverage'),
    'annealed EMA': ema('MomentumAnnealingEMA'),
    'SWA': ema('StochasticWeightAverage'),
    'AMP': dict(optim_wrapper=AMP),
    'groups': dict(
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=0.1),
            paramwise_cfg=dict(bias_lr_mult=2.0),
        )
    ),
    'exact resume': dict(custom_hooks=[dict(type='mmfgl.ExactResumeHook')]),
}


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """Train a run of RUNS; give its checkpoint."""
    import mmfgl  # noqa: F401  (its registry nodes)

    def train(name):
        folder = tmp_path_factory.mktemp('run')
        settings = dict(
            work_dir=str(folder),
            experiment_name=folder.name,
            train_dataloader=dict(
                dataset=Images(),
                batch_size=2,
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
            train_cfg=dict(by_epoch=False, max_iters=2),
            default_hooks=dict(
                checkpoint=dict(
                    type='CheckpointHook', interval=2, by_epoch=False
                ),
                logger=dict(type='LoggerHook', interval=1),
            ),
            log_level='ERROR',
        )
        settings |= optimizer('SGD', lr=0.1, momentum=0.9) | RUNS[name]
        Runner(Toy(), **settings).train()
        return folder / 'iter_2.pth'

    return train


@pytest.mark.parametrize('name', RUNS)
def test_genuine_checkpoints(trained, name):
    path = trained(name)
    expected = torch.load(path, weights_only=False)
    loaded = safe_load(path)
    assert loaded.keys() == expected.keys()
    assert_equal(loaded, expected)


def assert_equal(a, b):
    """The same things, of the same types."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_equal(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b)
    elif hasattr(a, '__dict__') and not callable(a):
        assert_equal(vars(a), vars(b))
    else:
        assert a == b or a != a


def rewrite(path, change):
    """Change the pickle inside a file of torch.save."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            if name.endswith('data.pkl'):
                content = change(content)
            archive.writestr(name, content)


@pytest.mark.parametrize('name', [b'numpy.core', b'numpy._core'])
def test_names_of_both_numpy_versions(trained, name):
    path = trained('SGD')

    def rename(content):
        content = content.replace(b'numpy._core', b'numpy.core')
        return content.replace(b'numpy.core', name)

    rewrite(path, rename)
    buffer = safe_load(path)['message_hub']['log_scalars']['train/loss']
    assert np.isfinite(buffer.current())


def test_what_other_projects_save(tmp_path):
    path = tmp_path / 'model.pth'
    content = dict(
        model=OrderedDict(a=nn.Parameter(torch.ones(2)), b=torch.Size([1])),
        args=argparse.Namespace(lr=0.1, device=torch.device('cpu')),
        half=torch.ones(2, dtype=torch.bfloat16),
        dtype=torch.float16,
        sparse=torch.eye(2).to_sparse(),
        others=[{1}, frozenset({2}), slice(1, 2), 1j, bytearray(b'a')],
        counts=defaultdict(int, a=1),
        bytes=b'\xff',
    )
    torch.save(content, path)
    loaded = safe_load(path)
    assert loaded['args'] == content['args']
    assert loaded['others'] == content['others']
    assert loaded['bytes'] == b'\xff'
    assert loaded['sparse'].to_dense().equal(torch.eye(2))
    assert loaded['half'].dtype == torch.bfloat16


ATTACKS = {
    'method': lambda mark: Call(Path.touch, mark),
    'system': lambda mark: Call(os.system, f'touch {mark}'),
    'eval': lambda mark: Call(eval, f'open({str(mark)!r}, "w")'),
    'getattr': lambda mark: Call(getattr, Path, 'touch'),
    'open': lambda mark: Call(open, str(mark), 'w'),
    'load': lambda mark: Call(torch.load, str(mark)),
    'numpy': lambda mark: Call(np.save, str(mark), np.zeros(1)),
    'bytes': lambda mark: Call(torch.storage._load_from_bytes, b''),
    'model': lambda mark: nn.Linear(2, 2),
}


@pytest.mark.parametrize('zipped', [True, False], ids=['zip', 'legacy'])
@pytest.mark.parametrize('name', ATTACKS)
def test_code_does_not_run(tmp_path, name, zipped):
    path, mark = tmp_path / 'bad.pth', tmp_path / 'code_ran'
    content = dict(state_dict={}, extra=ATTACKS[name](mark))
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match='--trust-checkpoint') as error:
        safe_load(path)
    assert str(path) in str(error.value)
    assert not mark.exists()
    if name in ('method', 'system', 'open'):  # the attack is a real one
        safe_load(path, trust=True)
        assert mark.exists()


PROTO, STOP = b'\x80\x02', b'.'


@pytest.mark.parametrize(
    'code',
    [
        # HistoryBuffer, BUILD with slot state (None, {'min': 1})
        b'cmmengine.logging.history_buffer\nHistoryBuffer\n'
        b'N}X\x03\x00\x00\x00minK\x01s\x86b',
        # getattr(HistoryBuffer, '__init__')
        b'c__builtin__\ngetattr\ncmmengine.logging.history_buffer\n'
        b'HistoryBuffer\nX\x08\x00\x00\x00__init__\x86R',
        b'cmmengine.logging.history_buffer\nHistoryBuffer.min\n',
        b'ctorch\nload\n',
        b'ctorch.serialization\nload\n',
        b'(cos\nsystem\nX\x02\x00\x00\x00lso',  # OBJ
        b"(S'ls'\nios\nsystem\n",  # INST
        b'\x82\x01',  # EXT1
        b'c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R',
    ],
    ids=repr,
)
def test_crafted_pickles(tmp_path, code):
    path = tmp_path / 'bad.pth'
    torch.save(dict(state_dict={}), path)
    rewrite(path, lambda _: PROTO + code + STOP)
    before = HistoryBuffer.min
    with pytest.raises(CheckpointError):
        safe_load(path)
    assert HistoryBuffer.min is before


def test_nothing_is_left_changed(tmp_path):
    path, schemes = tmp_path / 'bad.pth', CheckpointLoader._schemes.copy()
    torch.save(Call(Path.touch, tmp_path / 'a'), path)
    with pytest.raises(CheckpointError):
        safe_load(path)
    assert CheckpointLoader._schemes == schemes
    assert pickle.loads(pickle.dumps(Call(len, 'abc'))) == 3


def test_no_state_dict(tmp_path):
    path = tmp_path / 'tensor.pth'
    torch.save(torch.ones(2), path)
    with pytest.raises(CheckpointError, match='holds a Tensor'):
        safe_load(path)
