"""What the tests of the batched RPN share."""

import pytest
from mmdet.models.dense_heads import RPNHead


@pytest.fixture
def no_loop(monkeypatch):
    """A function that forbids mmdet's loops from then on."""

    def fail(*args, **kwargs):
        raise AssertionError('the loop over images runs')

    def forbid():
        monkeypatch.setattr(RPNHead, '_get_targets_single', fail)
        monkeypatch.setattr(RPNHead, '_predict_by_feat_single', fail)

    return forbid
