import gc
import os
import subprocess
import sys
from pathlib import Path

import mmengine.config.config
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from yapf.yapflib import yapf_api


def pytest_configure(config):
    """Hide GPUs from all tests but those of ``-m gpu``.

    The others compare bits and counts, and their models stay on the CPU.
    """
    if config.getoption('markexpr') != 'gpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''


@pytest.fixture(scope='session', autouse=True)
def no_search_for_garbage():
    """MMEngine's data sets collect garbage when they are built.

    That takes half a second, for it looks at all that was ever imported.
    """
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope='module', autouse=True)
def clean_slate():
    """Each file starts without scope and logger and with MMEngine's loaders.

    Runners leave theirs behind, and tools their safe loaders. What is logged
    before a run has a logger would go to that of another test.
    """
    scopes = DefaultScope._instance_dict.copy()
    loaders = CheckpointLoader._schemes.copy()
    DefaultScope._instance_dict.clear()
    MMLogger._instance_dict.clear()
    yield
    CheckpointLoader._schemes = loaders
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture(scope='module')
def unformatted_configs():
    """Runners write their config five times; YAPF takes a second for each."""
    with pytest.MonkeyPatch.context() as patch:
        # MMEngine imports it with its module, or when it is called
        for module in (mmengine.config.config, yapf_api):
            if hasattr(module, 'FormatCode'):
                patch.setattr(
                    module, 'FormatCode', lambda text, **_: (text, False)
                )
        yield


@pytest.fixture(scope='session')
def two_ranks(tmp_path_factory):
    """What two ranks return for a folder of tests, and where they ran.

    They are started once, for all: most of their time goes into imports.
    """
    folder = tmp_path_factory.mktemp('two_ranks')
    script = Path(__file__).with_name('run_ranks.py')
    children = [
        subprocess.Popen([sys.executable, script, str(rank), folder])
        for rank in range(2)
    ]
    assert [child.wait(timeout=300) for child in children] == [0, 0]
    ranks = [
        torch.load(folder / f'{rank}.pt', weights_only=False)
        for rank in range(2)
    ]
    return lambda name: (*(results[name] for results in ranks), folder)
