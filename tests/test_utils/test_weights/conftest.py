import pytest
from mmengine.runner import CheckpointLoader


@pytest.fixture(autouse=True)
def schemes():
    """Leave MMEngine's loaders as they were."""
    before = CheckpointLoader._schemes.copy()
    yield before
    CheckpointLoader._schemes = before


@pytest.fixture
def state():
    """State dict of a half-width ResNet-18, which `resnet` builds."""
    return resnet().state_dict()


def resnet(**options):
    from mmdet.models.backbones import ResNet

    options = dict(frozen_stages=-1, base_channels=8) | options
    return ResNet(18, **options)
