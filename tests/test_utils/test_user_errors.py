import json
import pickle
import runpy
import sys
from multiprocessing.pool import ExceptionWithTraceback
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS, Registry
from torch._utils import ExceptionWrapper

from mmfgl.utils.checked_runner import NamingPipeline
from mmfgl.utils.user_errors import REPORT, user_errors
from mmfgl.utils.weights import check_checkpoint


def end_of(act, *, debug=False):
    with pytest.raises(SystemExit) as end, user_errors(debug):
        act()
    return end.value.code


def test_one_line(tmp_path):
    script = tmp_path / 'tool.py'
    script.write_text(
        'from mmfgl.utils.user_errors import user_errors\n'
        'with user_errors():\n'
        "    raise ValueError('first\\n  - second.\\nthird')\n"
    )
    # Python prints the text to stderr and ends with status 1
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name='__main__')
    assert end.value.code == 'error: first; second. third'


def read(tmp_path, text, name='broken.py'):
    path = tmp_path / name
    path.write_text(text)
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ('act', 'message'),
    [
        (lambda _: Path('/no/such').read_text(), 'No such file or directory'),
        (lambda _: check_checkpoint('/no/such.pth'), 'does not exist: /no/'),
        (lambda p: read(p, 'a = (1,\n'), 'broken.py: SyntaxError: '),
        (lambda p: read(p, 'a = b\n'), 'broken.py: NameError: name'),
        (lambda p: read(p, 'a = 1 / 0\n'), 'broken.py: ZeroDivisionError'),
        (lambda p: read(p, "_base_ = 'no.py'\n"), 'no.py'),
        (
            lambda _: HOOKS.build(dict(type='NoHook')),
            'NoHook is not in the mmengine::hook registry',
        ),
        (
            lambda _: HOOKS.build(dict(type='LoggerHook', intervals=3)),
            "TypeError: .*unexpected keyword argument 'intervals'",
        ),
        (
            lambda _: HOOKS.build(dict(type='mmfgl.CheckpointChainHook')),
            "TypeError: .*missing 1 required .* 'modules'",
        ),
    ],
)
def test_errors_of_users(tmp_path, act, message):
    line = end_of(lambda: act(tmp_path))
    assert line.startswith('error: ') and '\n' not in line
    pytest.raises(SystemExit, sys.exit, line).match(message)
    with pytest.raises(Exception) as shown, user_errors(debug=True):
        act(tmp_path)
    assert not isinstance(shown.value, SystemExit)


class Parent:
    def __init__(self, size):
        self.size = size


NODE = Registry('user_errors')


@NODE.register_module()
class Child(Parent):
    def __init__(self, slip=False, **kwargs):
        super().__init__(**kwargs)
        if slip:
            Parent(wrong=1)


def test_argument_that_is_handed_on():
    line = end_of(lambda: NODE.build(dict(type='Child', size=1, sized=2)))
    assert "'sized'" in line and line.startswith('error: TypeError')
    # an error of the class, not of its config
    line = end_of(lambda: NODE.build(dict(type='Child', size=1, slip=True)))
    assert line == REPORT


@pytest.mark.parametrize(
    'act',
    [
        lambda: len(3),
        lambda: dict(a=1)['b'],
        lambda: json.loads('{'),
        lambda: int('three'),
        lambda: Config(dict(a=1)).b,
        lambda: exec('assert 1 == 2'),
    ],
)
def test_faults_keep_their_traceback(act, capsys):
    assert end_of(act) == REPORT
    text = capsys.readouterr().err
    assert text.startswith('Traceback') and 'test_user_errors.py' in text


def test_error_of_a_worker_names_the_image():
    def fail(data):
        raise OSError('broken')

    def from_worker():  # as a DataLoader hands it on
        try:
            NamingPipeline(fail)(dict(img_path='a.jpg'))
        except OSError:
            sent = ExceptionWrapper(where='in DataLoader worker process 0')
        sent.reraise()

    line = end_of(from_worker)
    assert line.startswith('error: image a.jpg cannot be used')
    assert 'Traceback' not in line


def split(value):
    first, _ = value
    if first:
        raise ValueError('first is set')


@pytest.mark.parametrize(
    ('value', 'line'),
    [((1, 2), 'error: first is set'), ((1, 2, 3), REPORT)],
)
def test_error_of_a_pool(value, line):
    def from_worker():  # as a pool hands it on
        try:
            split(value)
        except ValueError as error:
            sent = ExceptionWithTraceback(error, error.__traceback__)
        raise pickle.loads(pickle.dumps(sent))

    assert end_of(from_worker) == line


def test_ranks_and_statuses(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert end_of(lambda: Path('/no').read_text()).startswith(
        'error: rank 1: [Errno 2]'
    )
    assert end_of(lambda: len(3)) == f'rank 1: {REPORT}'
    assert end_of(lambda: sys.exit(75)) == 75

    def lost():
        raise RuntimeError('[gloo] Connection closed by peer [::1]:2')

    assert 'rank 1: [gloo] Connection' in end_of(lost)
