import pytest
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader


@pytest.fixture(scope='module', autouse=True)
def clean_slate():
    """Each file starts without a default scope and with MMEngine's loaders.

    Runners leave their scope behind, and tools their safe loaders.
    """
    scopes = DefaultScope._instance_dict.copy()
    loaders = CheckpointLoader._schemes.copy()
    DefaultScope._instance_dict.clear()
    yield
    CheckpointLoader._schemes = loaders
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)
