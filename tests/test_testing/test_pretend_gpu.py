import pytest
import torch

from mmfgl.testing.pretend_gpu import DEVICE, PretendGPU, on_gpu


@pytest.fixture
def gpu():
    with PretendGPU() as gpu:
        yield gpu


def test_tensors_know_where_they_are(gpu):
    x = torch.zeros(2, 3, device='cuda')
    assert x.device == DEVICE and x.is_cuda
    for y in (x + 1, x[:, 0], x.new_ones(2), torch.ones_like(x), x.T, x.data):
        assert on_gpu(y)
    assert not on_gpu(torch.ones(2)) and not on_gpu(x.cpu())
    assert on_gpu(torch.ones(2).to(x.device)) and on_gpu(torch.ones(2).to(x))
    layer = torch.nn.Linear(3, 3).to('cuda')
    assert all(map(on_gpu, layer.parameters()))
    out = layer(x).sum()
    assert on_gpu(out)
    out.backward()
    assert layer.weight.grad.isfinite().all()


def test_mixed_devices_raise(gpu):
    x, host = torch.ones(3, device='cuda'), torch.ones(3)
    for mix in (
        lambda: x + host,
        lambda: torch.cat([x, host]),
        lambda: torch.stack([x[0], torch.tensor(1.0)]),
        lambda: host[x > 0],
        lambda: torch.nn.Linear(3, 3)(x),
        lambda: torch.where(x > 0, x, host),
    ):
        with pytest.raises(RuntimeError, match='same device'):
            mix()
    with pytest.raises(TypeError, match='numpy'):
        x.numpy()
    assert on_gpu(x + torch.tensor(1.0))  # a scalar may come from the host


@pytest.mark.parametrize(
    ('waits', 'uploads', 'run'),
    [
        (1, 0, lambda x: x.sum().item()),
        (1, 0, lambda x: bool(x.any())),
        (1, 0, lambda x: x.tolist()),
        (1, 0, lambda x: x.cpu()),
        (1, 0, lambda x: x[x > 0]),
        (1, 0, lambda x: x.nonzero()),
        (2, 0, lambda x: torch.bincount(x.long())),
        (0, 0, lambda x: x.masked_fill(x > 0, 1)),
        (0, 0, lambda x: x.sort().values.topk(2)),
        (0, 0, lambda x: x.new_full((2,), 3)),
        (0, 1, lambda x: x.new_tensor([1.0, 2])),
        (0, 1, lambda x: torch.tensor([1.0], device=x.device)),
        (0, 1, lambda x: torch.ones(2).to(x.device)),
        (0, 0, lambda x: torch.ones(2).to(x.device, non_blocking=True)),
        (0, 1, lambda x: x[torch.tensor([0, 1])]),
    ],
)
def test_counts(gpu, waits, uploads, run):
    x = torch.arange(4.0, device='cuda')
    gpu.clear()
    run(x)
    assert sum(gpu.waits.values()) == waits, gpu.waits
    assert sum(gpu.uploads.values()) == uploads, gpu.uploads
    gpu.clear()
    torch.arange(4.0).sum().item()  # on the host
    assert not gpu.waits
