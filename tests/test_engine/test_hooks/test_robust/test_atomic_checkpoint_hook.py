import os
from pathlib import Path

import pytest
import torch
from mmengine.fileio.backends import backends
from mmengine.hooks import Hook
from mmengine.runner import find_latest_checkpoint

from mmfgl.engine.hooks import AtomicCheckpointHook
from mmfgl.utils import atomic_files
from mmfgl.utils.atomic_files import SUFFIX
from mmfgl.utils.processes import owner_tag


def names(folder):
    return {path.name for path in Path(folder).iterdir() if path.is_file()}


def full(handle):
    raise OSError(28, 'No space left on device')


def test_keeps_what_it_should(detector_runner):
    runner = detector_runner(4, checkpoint=dict(interval=1, max_keep_ckpts=2))
    work_dir = Path(runner.work_dir)
    left = work_dir / f'.iter_9.pth.{owner_tag()}0{SUFFIX}'
    left.write_bytes(b'left by a dead run')
    before = dict(backends)
    runner.train()
    files = {name for name in names(work_dir) if 'iter' in name}
    assert files == {'iter_3.pth', 'iter_4.pth'}
    assert not left.exists()
    latest = find_latest_checkpoint(str(work_dir))
    assert latest.endswith('iter_4.pth')
    saved = torch.load(latest, map_location='cpu', weights_only=False)
    assert saved['meta']['iter'] == 4
    # MMEngine's own backends are left alone
    assert {k: v for k, v in backends.items() if k in before} == before


def test_full_disk_says_how_to_go_on(detector_runner, monkeypatch):
    runner = detector_runner(1, checkpoint=dict(interval=1))
    monkeypatch.setattr(atomic_files.os, 'fsync', full)
    with pytest.raises(OSError, match=r'No space left.*--resume') as caught:
        runner.train()
    assert caught.value.errno == 28
    assert not [name for name in names(runner.work_dir) if 'iter' in name]


class Killed(BaseException):
    """As if the process had died: nothing gets to clean up."""


@pytest.mark.parametrize('keep', [-1, 1])
@pytest.mark.parametrize(
    ('where', 'number'),
    # the calls of the second save; a file is two fsyncs and one replace
    [('fsync', 5), ('fsync', 6), ('fsync', 7), ('fsync', 8)]
    + [('replace', 3), ('replace', 4)],
)
def test_death_while_saving(toy, monkeypatch, where, number, keep):
    checkpoint = dict(interval=2, max_keep_ckpts=keep)
    runner = toy(iters=4, checkpoint=checkpoint)
    original, calls = getattr(os, where), []

    def die(*args):
        calls.append(args)
        if len(calls) == number:
            raise Killed
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(atomic_files.os, where, die)
        runner.train()
    latest = find_latest_checkpoint(runner.work_dir)
    torch.load(latest, map_location='cpu', weights_only=False)
    resumed = toy(
        iters=4, checkpoint=checkpoint, load_from=latest, resume=True
    )
    resumed.train()
    assert resumed.iter == 4
    assert not [n for n in names(runner.work_dir) if SUFFIX in n]


class StopAtOnce(Hook):
    """Saves as a signal in the validation before the first step would."""

    priority = 'LOWEST'

    def before_train(self, runner):
        hooks = runner.hooks
        saver = next(h for h in hooks if isinstance(h, AtomicCheckpointHook))
        self.saved = saver.save_now(runner, runner.iter)


def test_a_scheduled_checkpoint_stays_one(toy):
    """The run was resumed from it, and stopped again before a step."""
    checkpoint = dict(interval=4)
    first = toy(iters=4, checkpoint=checkpoint)
    first.train()
    path = f'{first.work_dir}/iter_4.pth'
    stop, resumed = StopAtOnce(), dict(load_from=path, resume=True)
    toy(stop, iters=8, checkpoint=checkpoint, **resumed).train()
    assert stop.saved == 'saved as iter_4.pth'
    assert {'iter_4.pth', 'iter_8.pth'} <= names(first.work_dir)
