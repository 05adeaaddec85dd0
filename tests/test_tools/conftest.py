"""A tool finds the modules beside it, as when it is run."""

import sys
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
for name in ('benchmarks', 'dataset_converters'):
    sys.path.insert(0, str(TOOLS / name))


@pytest.fixture(scope='module', autouse=True)
def scopes():
    """Leave no default scope or loader behind for other test files."""
    before = DefaultScope._instance_dict.copy()
    loaders = CheckpointLoader._schemes.copy()
    yield
    CheckpointLoader._schemes = loaders
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
