import errno
import json
import os
import subprocess
import sys
import time

import pytest

from mmfgl.utils import work_dir_lock as module
from mmfgl.utils.atomic_files import SUFFIX, remove_leftovers
from mmfgl.utils.processes import is_alive, owner_tag
from mmfgl.utils.work_dir_lock import (
    WorkDirInUseError,
    WorkDirLock,
    WorkDirLostError,
)


@pytest.fixture
def dead():
    """Tag of a process that has ended, but was not waited for."""
    process = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=-1)
    tag = owner_tag(process.pid)
    assert is_alive(tag)
    process.stdin.close()
    while is_alive(tag):
        time.sleep(0.01)
    yield tag
    process.wait()
    assert is_alive(tag) is False


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, 'BEAT', 0.02)
    monkeypatch.setattr(module, 'PATIENCE', 0.3)


def foreign(folder, owner='0-1-1', **about):
    about = dict(owner=owner, token='other', pid=7, host='far', **about)
    (folder / module.NAME).write_text(json.dumps(about))


def test_tags():
    assert is_alive(owner_tag())
    assert is_alive(owner_tag() + '0') is False  # the number was used again
    assert is_alive('elsewhere-1-1') is None
    assert is_alive('1') is None


def test_one_run_a_work_dir(tmp_path):
    folder = tmp_path / 'run'
    with WorkDirLock(folder):
        with pytest.raises(WorkDirInUseError) as error, WorkDirLock(folder):
            pass
        text = str(error.value)
        assert f'{folder} is in use by process {os.getpid()} on ' in text
        assert '--work-dir' in text and '\n' not in text
    assert not folder.exists()  # an empty one is not left behind
    with WorkDirLock(folder):
        (folder / 'kept').touch()
    assert [p.name for p in folder.iterdir()] == ['kept']


def test_a_dead_owner_loses_the_lock(tmp_path, dead):
    foreign(tmp_path, dead)
    start = time.monotonic()
    with WorkDirLock(tmp_path):
        assert time.monotonic() - start < 0.3


@pytest.mark.parametrize('content', [None, b'', b'{"tok'])
def test_silent_owner_elsewhere_is_dead(tmp_path, content):
    """On another host, before a reboot, or killed as it made the file."""
    foreign(tmp_path)
    if content is not None:
        (tmp_path / module.NAME).write_bytes(content)
    with WorkDirLock(tmp_path) as lock:
        assert module._read(lock.path)['pid'] == os.getpid()


def test_heartbeat_of_an_owner_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'owner_tag', lambda: 'elsewhere-1-1')
    monkeypatch.setenv('SLURM_JOB_ID', '77')
    monkeypatch.setattr(module, 'PATIENCE', 20)
    with (
        WorkDirLock(tmp_path),
        pytest.raises(WorkDirInUseError, match='Slurm job 77'),
        WorkDirLock(tmp_path),
    ):
        pass


def test_a_run_that_lost_its_work_dir_is_told(tmp_path):
    with WorkDirLock(tmp_path) as lock:
        lock.check()
        foreign(tmp_path)
        while not lock.lost:
            time.sleep(0.01)
        with pytest.raises(WorkDirLostError, match='no longer'):
            lock.check()
    assert (tmp_path / module.NAME).exists()  # the other's stays


def test_leftovers_of_dead_owners_alone_are_removed(tmp_path, dead):
    def leave(tag, age=0):
        path = tmp_path / f'.iter_9.pth.{tag}{SUFFIX}'
        path.write_bytes(b'part')
        os.utime(path, (time.time() - age,) * 2)
        return path.name

    gone = {leave(dead), leave('elsewhere-1-1', 4000), leave('12', 4000)}
    kept = {leave(owner_tag(), 4000), leave('elsewhere-1-2'), leave('13')}
    assert set(remove_leftovers(tmp_path)) == gone
    assert {p.name for p in tmp_path.iterdir()} == kept
    assert remove_leftovers(tmp_path / 'none') == []


def test_a_full_disk_leaves_no_lock(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')

    lock = WorkDirLock(str(tmp_path))
    monkeypatch.setattr(lock, '_content', full)
    with pytest.raises(OSError, match=r'lock could not be .*make room'), lock:
        pass
    assert not list(tmp_path.iterdir())
