import torch
from torch import nn

from mmfgl.engine.hooks.robust.trained_buffers import TrainedBuffers
from mmfgl.models.balancers.task_sampler import TaskSampler
from mmfgl.testing.pretend_gpu import PretendGPU


def make():
    model = nn.ModuleDict(
        dict(student=nn.BatchNorm1d(2), teacher=nn.BatchNorm1d(2).eval())
    )
    return model, TrainedBuffers(model)


def forward(model):
    model['student'](torch.randn(4, 2))


def test_takes_a_forward_pass_back():
    model, buffers = make()
    for step in range(3):
        buffers.save()
        forward(model)
        if step == 1:
            assert model['student'].num_batches_tracked == 2
            buffers.restore()
            assert model['student'].num_batches_tracked == 1
    assert model['student'].num_batches_tracked == 2


def test_copies_what_moves_and_makes_no_new_copies():
    model, buffers = make()
    buffers.save()
    copies = [copy for _, group in buffers._groups for copy in group]
    assert len(copies) == 3  # none of the teacher's
    forward(model)
    buffers.save()
    again = [copy for _, group in buffers._groups for copy in group]
    assert all(a is b for a, b in zip(copies, again, strict=True))
    # a module that starts to train
    model['teacher'].train()
    buffers.save()
    model['teacher'](torch.randn(4, 2))
    buffers.restore()
    assert model['teacher'].num_batches_tracked == 0
    assert model['student'].num_batches_tracked == 1


def test_state_known_to_the_host_goes_back_too():
    sampler = TaskSampler(('a', 'b'), costs=dict(a=3.0, b=1.0), warmup=0)
    shares = torch.tensor([0.2, 0.8])
    with PretendGPU():
        sampler.to('cuda')
        shares = shares.to('cuda')
        buffers = TrainedBuffers(sampler)
        buffers.save()
        first = [sampler.draw(shares).scales for _ in range(20)]
        buffers.restore()
        again = [sampler.draw(shares).scales for _ in range(20)]
    assert first == again and len({str(x) for x in first}) > 1
