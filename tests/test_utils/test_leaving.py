"""How a process ends that belongs to a group, and one that is alone."""

import atexit
import os
import sys
import traceback

import pytest
import torch.distributed as dist

from mmfgl.utils.leaving import leaving


def end(error):
    """Work in a group, and end."""
    with leaving():
        print('work', end=' ')
        if error is not None:
            raise error
    print('went on')


def ended(folder, error):
    """Exit status and output of a forked process that is in a group."""
    log = folder / 'log.txt'
    pid = os.fork()
    if pid == 0:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        # pytest has put others in their place, and its own ends
        sys.stdout, sys.stderr = open(1, 'w'), open(2, 'w')  # noqa: SIM115
        try:
            atexit._clear()
            atexit.register(print, 'at exit')
            store = f'file://{folder}/store'
            dist.init_process_group('gloo', store, rank=0, world_size=1)
            end(error)
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), log.read_text()


@pytest.mark.parametrize(
    ('error', 'status', 'said'),
    [
        (None, 0, ''),
        (SystemExit(75), 75, ''),
        (SystemExit('error: rank 1: x'), 1, 'error: rank 1: x'),
        (ValueError('a fault'), 1, 'ValueError: a fault'),
        (KeyboardInterrupt(), 1, 'KeyboardInterrupt'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_process_of_several(tmp_path, error, status, said):
    code, output = ended(tmp_path, error)
    assert code == status, output
    assert 'work ' in output and 'at exit' in output and said in output
    assert 'went on' not in output


@pytest.mark.parametrize('error', [SystemExit(75), ValueError('a fault')])
def test_a_process_alone(error):
    with pytest.raises(type(error)) as raised, leaving():
        raise error
    assert raised.value is error
    with leaving():
        pass
