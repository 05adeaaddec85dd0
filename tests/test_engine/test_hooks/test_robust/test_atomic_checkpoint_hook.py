import os
from pathlib import Path

import pytest
import torch
from mmengine.runner import find_latest_checkpoint

from mmfgl.engine.hooks import AtomicCheckpointHook
from mmfgl.utils import atomic_files
from mmfgl.utils.atomic_files import (
    SUFFIX,
    remove_leftovers,
    write_atomically,
)


def names(folder):
    return {path.name for path in Path(folder).iterdir() if path.is_file()}


def hook_of(runner):
    kind = AtomicCheckpointHook
    return next(hook for hook in runner._hooks if isinstance(hook, kind))


def test_write_replaces_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / 'deep' / 'file'
    write_atomically(b'old', path)
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append((Path(source).read_bytes(), Path(target).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(atomic_files.os, 'replace', spy)
    write_atomically(b'new and longer', path)
    assert seen == [(b'new and longer', b'old')]
    assert path.read_bytes() == b'new and longer'
    assert names(path.parent) == {'file'}


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_atomically(b'old', path)

    def full(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(atomic_files.os, 'fsync', full)
    with pytest.raises(OSError, match=r'No space left.*--resume') as caught:
        write_atomically(b'new', path)
    assert caught.value.errno == 28
    assert path.read_bytes() == b'old'
    assert names(tmp_path) == {'file'}


def test_leftovers(tmp_path):
    (tmp_path / f'.iter_2.pth.77{SUFFIX}').write_bytes(b'half')
    (tmp_path / 'iter_1.pth').write_bytes(b'whole')
    assert remove_leftovers(tmp_path) == [f'.iter_2.pth.77{SUFFIX}']
    assert names(tmp_path) == {'iter_1.pth'}
    assert remove_leftovers(tmp_path / 'none') == []


def test_keeps_what_it_should(retod_runner):
    runner = retod_runner(4, checkpoint=dict(interval=1, max_keep_ckpts=2))
    work_dir = Path(runner.work_dir)
    (work_dir / f'.iter_9.pth.1{SUFFIX}').write_bytes(b'left by a dead run')
    runner.train()
    files = {name for name in names(work_dir) if 'iter' in name}
    assert files == {'iter_3.pth', 'iter_4.pth'}
    latest = find_latest_checkpoint(str(work_dir))
    assert latest.endswith('iter_4.pth')
    saved = torch.load(latest, map_location='cpu', weights_only=False)
    assert saved['meta']['iter'] == 4


class Killed(BaseException):
    """As if the process had died: nothing gets to clean up."""


@pytest.mark.parametrize('where', ['fsync', 'replace'])
@pytest.mark.parametrize('keep', [-1, 1])
def test_death_while_saving(retod_runner, monkeypatch, where, keep):
    """At each point of the second save; one checkpoint must stay."""
    checkpoint = dict(interval=2, max_keep_ckpts=keep)
    for number in range(1, 5):  # calls of the second save (a file is two)
        work_dir = f'{where}_{keep}_{number}'
        runner = retod_runner(4, checkpoint=checkpoint, work_dir=work_dir)
        original, calls = getattr(os, where), []

        def die(*args, original=original, calls=calls, number=number):
            calls.append(args)
            # the first save takes 4 fsyncs or 2 replaces
            if len(calls) == (4 if where == 'fsync' else 2) + number:
                raise Killed
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(atomic_files.os, where, die)
            if where == 'replace' and number > 2:
                return
            with pytest.raises(Killed):
                runner.train()
        latest = find_latest_checkpoint(runner.work_dir)
        torch.load(latest, map_location='cpu', weights_only=False)
        resumed = retod_runner(
            4,
            checkpoint=checkpoint,
            work_dir=work_dir,
            load_from=latest,
            resume=True,
        )
        resumed.train()
        assert resumed.iter == 4
        assert not [n for n in names(runner.work_dir) if SUFFIX in n]


def test_best_checkpoint_is_replaced_after_saving(retod_runner, monkeypatch):
    runner = retod_runner(
        4, checkpoint=dict(interval=1, save_best='score', rule='greater')
    )
    runner.train()
    hook = next(
        h for h in runner._hooks if isinstance(h, AtomicCheckpointHook)
    )
    work_dir = Path(runner.work_dir)

    def best():
        return {name for name in names(work_dir) if 'best' in name}

    runner.train_loop._iter = 1
    hook._save_best_checkpoint(runner, dict(score=0.5))
    assert best() == {'best_score_iter_1.pth'}
    runner.train_loop._iter = 2
    hook._save_best_checkpoint(runner, dict(score=0.4))
    assert best() == {'best_score_iter_1.pth'}
    assert hook.best_ckpt_path.endswith('best_score_iter_1.pth')

    runner.train_loop._iter = 3
    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(
            atomic_files.os, 'fsync', lambda _: (_ for _ in ()).throw(OSError)
        )
        hook._save_best_checkpoint(runner, dict(score=0.9))
    assert best() == {'best_score_iter_1.pth'}


def test_best_of_several_metrics(retod_runner):
    runner = retod_runner(
        1, checkpoint=dict(interval=1, save_best=['a', 'b'], rule='greater')
    )
    runner.train()
    hook = next(
        h for h in runner._hooks if isinstance(h, AtomicCheckpointHook)
    )
    for step, scores in enumerate([(0.1, 0.5), (0.2, 0.4), (0.1, 0.6)], 1):
        runner.train_loop._iter = step
        hook._save_best_checkpoint(runner, dict(zip('ab', scores)))
    best = {n for n in names(runner.work_dir) if 'best' in n}
    assert best == {'best_a_iter_2.pth', 'best_b_iter_3.pth'}
