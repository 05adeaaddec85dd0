import pytest
import torch

from mmfgl.models.layers import BoxPositionEmbedding
from mmfgl.registry import MODELS

DIMS = 32


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return MODELS.build(
        dict(type='mmfgl.BoxPositionEmbedding', embed_dims=DIMS)
    )


def random_boxes(*shape):
    corners = torch.rand(*shape, 2, 2, generator=torch.manual_seed(1))
    return corners.sort(dim=-2).values.flatten(-2)


def test_shape_and_batch_dimensions(embedding):
    boxes = random_boxes(2, 3, 5)
    out = embedding(boxes)
    assert out.shape == (2, 3, 5, DIMS)
    torch.testing.assert_close(out[1, 2], embedding(boxes[1, 2]))
    assert embedding(torch.zeros(0, 4)).shape == (0, DIMS)


@pytest.mark.parametrize('number', range(4))
def test_each_coordinate_counts(embedding, number):
    box = torch.tensor([[0.2, 0.3, 0.6, 0.8]])
    moved = box.clone()
    moved[0, number] += 0.05
    assert (embedding(moved) - embedding(box)).abs().max() > 1e-2


def test_all_cells_of_a_grid_are_told_apart(embedding):
    lines = torch.arange(16.0) / 16
    y, x = torch.meshgrid(lines, lines, indexing='ij')
    boxes = torch.stack([x, y, x + 1 / 16, y + 1 / 16], dim=-1).view(-1, 4)
    out = embedding(torch.cat([boxes, boxes * 0.5]))
    gaps = torch.cdist(out, out) + torch.eye(len(out)) * 10
    assert gaps.min() > 1e-3


@pytest.mark.parametrize(
    'box',
    [
        [0.5, 0.5, 0.5, 0.5],  # a point
        [-0.2, -0.1, 1.3, 1.2],  # beyond the image
        [0.6, 0.6, 0.4, 0.4],  # inverted
    ],
)
def test_odd_boxes_stay_finite(embedding, box):
    box = torch.tensor([box], requires_grad=True)
    out = embedding(box)
    out.sum().backward()
    assert out.isfinite().all()
    assert box.grad.isfinite().all()
    assert embedding.proj.weight.grad.isfinite().all()


def test_fixed_frequencies_are_no_part_of_a_checkpoint(embedding):
    assert set(embedding.state_dict()) == {'proj.weight', 'proj.bias'}
    other = BoxPositionEmbedding(DIMS)
    other.load_state_dict(embedding.state_dict())
    boxes = random_boxes(7)
    assert torch.equal(other(boxes), embedding(boxes))


def test_features_are_computed_in_fp32(embedding):
    boxes = random_boxes(20)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = embedding(boxes)
    torch.testing.assert_close(
        out.float(), embedding(boxes), atol=0.05, rtol=0.05
    )
    half = boxes.bfloat16()
    assert torch.equal(embedding(half), embedding(half.float()))
