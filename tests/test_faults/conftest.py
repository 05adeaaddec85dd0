"""A bench that runs the tools on tiny configs and says what was seen."""

import os
import re
import runpy
import sys
import time
import traceback
from pathlib import Path

import mmdet.datasets  # noqa: F401  (imported once, for all children)
import mmdet.models  # noqa: F401
import mmpretrain.datasets  # noqa: F401
import pytest
import torch

from mmfgl.testing import tiny_coco
from tools.benchmarks.faults_runs import pretraining

TOOLS = Path(__file__).parents[2] / 'tools'


class Bench:
    """Runs tools in child processes, each with its own work dir.

    Children are forked: they start at once, with everything imported.
    """

    def __init__(self, folder, record):
        self.folder, self.record = folder, record

    def start(self, cfg, name, *args, tool='train.py', before=None):
        """Start a tool; return its process id and the file of its output.

        Without a config its arguments are all.
        """
        work_dir = self.folder / name
        work_dir.mkdir(exist_ok=True)
        path = self.folder / f'{name}.py'
        if cfg is not None:
            cfg.dump(str(path))
        log = work_dir / f'output_{time.monotonic_ns()}.txt'
        pid = os.fork()
        if pid:
            return pid, log
        code = 1
        try:
            handle = os.open(log, os.O_CREAT | os.O_WRONLY)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            # pytest has put others in their place
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            os.environ['CUDA_VISIBLE_DEVICES'] = ''
            # the runs that a tool starts import tools.benchmarks.faults_runs
            os.environ['PYTHONPATH'] = str(TOOLS.parent)
            torch.set_num_threads(1)
            if before is not None:
                before()
            script = str(TOOLS / tool)
            sys.argv = [script, *map(str, args)]
            if cfg is not None:
                sys.argv.insert(1, str(path))
                sys.argv += ['--work-dir', str(work_dir)]
            # as `python SCRIPT` does
            sys.path.insert(0, str(Path(script).parent))
            runpy.run_path(script, run_name='__main__')
            code = 0
        except SystemExit as error:
            code = error.code or 0
            if isinstance(code, str):  # as Python does
                print(code, file=sys.stderr)
                code = 1
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, *args, **kwargs):
        """Run a tool to its end; return its exit code and output."""
        pid, log = self.start(*args, **kwargs)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), log.read_text()

    def trained(self, cfg, name='first', iters=4, *args):
        """The checkpoint of a faultless run."""
        code, output = self.run(cfg, name, *args)
        assert code == 0, error_of(output)
        return self.folder / name / f'iter_{iters}.pth'

    def stop(self, cfg, name, number, *args):
        """Start a run, signal it in its first steps; its exit code, output."""
        pid, log = self.start(cfg, name, *args)
        limit = time.monotonic() + 120
        while not (log.exists() and 'Iter(train)' in log.read_text()):
            assert time.monotonic() < limit
            assert not os.waitpid(pid, os.WNOHANG)[0], log.read_text()[-2000:]
            time.sleep(0.02)
        os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status), log.read_text()

    def seen(self, text):
        """Write down what was seen."""
        self.record('seen', ' '.join(str(text).split())[:300])

    def stops(self, result, *words):
        """Expect an error that says these words."""
        code, output = result
        error = error_of(output)
        self.seen(error)
        assert code != 0
        assert not [word for word in words if word not in error], error

    def ends(self, result, pattern):
        """Expect a complete run whose output says something."""
        code, output = result
        found = re.search(pattern, output)
        seen = found.group() if found else f'nothing like "{pattern}"'
        self.seen(f'stopped: {error_of(output)}' if code else seen)
        assert code == 0 and found, output[-2000:]


def error_of(output):
    """The message of the error that ended a run, on one line."""
    if found := re.findall(r'^error: .*', output, re.M):
        return found[-1]
    found = re.findall(r'^(\w+(?:\.\w+)*(?:Error|Exception)): ', output, re.M)
    if not found:
        return 'no error'
    text = output[output.rindex(f'{found[-1]}: ') :]
    return ' '.join(text.split())


@pytest.fixture
def bench(tmp_path, request, record_property):
    """A bench; the test's docstring is ``fault: what is expected``."""
    # children are forked, which threads do not survive
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fault, expected = request.function.__doc__.split(': ', 1)
    record_property('fault', fault)
    record_property('expected', ' '.join(expected.split()).rstrip('.'))
    yield Bench(tmp_path, record_property)
    torch.set_num_threads(threads)


@pytest.fixture
def data(tmp_path):
    """A tiny data set that a test may damage."""
    return tiny_coco(tmp_path / 'data')


@pytest.fixture
def checkpoint(bench, data):
    """Checkpoint of a faultless pretraining."""
    return bench.trained(pretraining(data))
