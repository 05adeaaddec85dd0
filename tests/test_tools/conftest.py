"""A tool finds the modules beside it, as when it is run."""

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / 'tools'
for name in ('analysis_tools', 'benchmarks', 'dataset_converters'):
    sys.path.insert(0, str(TOOLS / name))
sys.path.insert(0, str(HERE))


@pytest.fixture
def clone(tmp_path):
    from kept_runs import make_clone

    return make_clone(tmp_path)
