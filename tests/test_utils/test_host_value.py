import copy

import pytest
import torch
from torch import nn

from mmfgl.utils.host_value import HostValue


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('step', torch.tensor(0))
        self.known = HostValue()

    def count(self):
        self.known.set(self.step, self.known.get(self.step) + 1)
        return self.known.get(self.step)


def test_sees_what_others_wrote():
    counter = Counter()
    assert [counter.count(), counter.count()] == [1, 2]
    assert counter.step == 2
    counter.step.copy_(torch.tensor(7))  # a step was taken back
    assert counter.count() == 8
    counter.load_state_dict(dict(step=torch.tensor(3)))
    assert counter.count() == 4
    assert copy.deepcopy(counter).count() == 5
    counter.step = torch.tensor(20)  # the model has moved
    assert counter.count() == 21


def test_is_not_read_again(monkeypatch):
    counter = Counter()
    counter.count()
    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, 'item', None)
        assert counter.count() == 2
        counter.step += 1
        with pytest.raises(TypeError):
            counter.count()
