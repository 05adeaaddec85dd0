import pytest
import torch
from mmdet.models import RPNHead, SingleRoIExtractor
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmfgl.engine import optim_wrapper as module
from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper


@pytest.fixture(autouse=True)
def cpu_only(monkeypatch):
    monkeypatch.setattr(module, 'get_device', lambda: 'cpu')


@pytest.fixture
def optimizer():
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


class ToyModel(BaseModel):
    """Linear regression that notes the data type it computes in."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, inputs, target, mode='loss'):
        out = self.linear(inputs)
        self.seen = out.dtype
        return dict(loss=((out.float() - target) ** 2).mean())


def train(wrapper_class, steps=30):
    torch.manual_seed(0)
    model = ToyModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
    wrapper = wrapper_class(optimizer=optimizer)
    inputs = torch.randn(64, 4)
    target = inputs.sum(1, keepdim=True)
    for _ in range(steps):
        log = model.train_step(dict(inputs=inputs, target=target), wrapper)
    return model, wrapper, log['loss'].item()


def test_forward_in_bf16_weights_in_fp32():
    model, wrapper, loss = train(CPUAmpOptimWrapper)
    assert model.seen == torch.bfloat16
    assert model.linear.weight.dtype == torch.float32
    (state, *_) = wrapper.optimizer.state.values()
    assert state['momentum_buffer'].dtype == torch.float32
    reference, _, _ = train(OptimWrapper)
    assert reference.seen == torch.float32
    assert loss < 0.01
    torch.testing.assert_close(
        model.linear.weight, reference.linear.weight, atol=0.02, rtol=0
    )


def test_takes_over_the_state_of_a_gpu_run():
    _, wrapper, _ = train(OptimWrapper, steps=1)
    state = wrapper.state_dict() | {'loss_scaler': {'scale': 65536.0}}
    _, other, _ = train(CPUAmpOptimWrapper, steps=1)
    other.load_state_dict(state)
    assert 'loss_scaler' not in other.state_dict()


@pytest.mark.parametrize('dtype', ['float16', torch.float32])
def test_other_dtypes_are_an_error(dtype, optimizer):
    for right in ('bfloat16', torch.bfloat16):
        CPUAmpOptimWrapper(dtype=right, optimizer=optimizer)
    with pytest.raises(ValueError, match='bfloat16" only'):
        CPUAmpOptimWrapper(dtype=dtype, optimizer=optimizer)


def test_gpu_is_an_error(monkeypatch, optimizer):
    monkeypatch.setattr(module, 'get_device', lambda: 'cuda')
    with pytest.raises(RuntimeError, match='Use AmpOptimWrapper'):
        CPUAmpOptimWrapper(optimizer=optimizer)


def test_boxes_stay_in_fp32():
    anchors = dict(
        type='mmdet.AnchorGenerator', scales=[8], ratios=[1.0], strides=[1]
    )
    layer = dict(type='RoIAlign', output_size=3, sampling_ratio=0)
    # the defaults of the parents' heads name their parts without a scope
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = nn.ModuleDict(
            dict(
                conv=nn.Conv2d(3, 8, 3, padding=1),
                rpn=RPNHead(8, feat_channels=8, anchor_generator=anchors),
                extractor=SingleRoIExtractor(layer, 8, [1]),
            )
        )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = CPUAmpOptimWrapper(optimizer=optimizer)
    # in bfloat16 both corners would be rounded to 32 px
    rois = torch.tensor([[0, 31.9, 31.9, 40.1, 40.1]])
    image = torch.randn(1, 3, 64, 64)
    wrapper.initialize_count_status(model, 0, 1)
    for _ in range(2):
        with wrapper.optim_context(model):
            features = model.conv(image)
            tokens = model.extractor((features,), rois)
            scores, deltas = model.rpn((features,))
    assert features.dtype == torch.bfloat16
    assert tokens.dtype == torch.float32
    assert scores[0].dtype == deltas[0].dtype == torch.float32
    expected = model.extractor((features.float(),), rois)
    torch.testing.assert_close(tokens, expected, atol=0, rtol=0)
    # a second forward pass has not added the hooks again
    assert len(model.rpn._forward_hooks) == 1
    (tokens.sum() + scores[0].sum()).backward()
    assert model.conv.weight.grad.abs().sum() > 0
