import pytest
from mmengine.runner import CheckpointLoader


@pytest.fixture(autouse=True)
def schemes():
    """Leave MMEngine's loaders as they were."""
    before = CheckpointLoader._schemes.copy()
    yield before
    CheckpointLoader._schemes = before
