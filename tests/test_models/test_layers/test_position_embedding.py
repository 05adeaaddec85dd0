import pytest
import torch

from mmfgl.models.layers import BoxPositionEmbedding
from mmfgl.testing import assert_trained

DIMS = 32


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return BoxPositionEmbedding(DIMS)


def test_all_cells_of_a_grid_are_told_apart(embedding):
    lines = torch.arange(16.0) / 16
    y, x = torch.meshgrid(lines, lines, indexing='ij')
    boxes = torch.stack([x, y, x + 1 / 16, y + 1 / 16], dim=-1)  # (16, 16, 4)
    out = embedding(torch.stack([boxes, boxes * 0.5]))
    assert out.shape == (2, 16, 16, DIMS)
    torch.testing.assert_close(out[1, 3], embedding(boxes[3] * 0.5))
    gaps = torch.pdist(out.detach().view(-1, DIMS))
    assert gaps.min() > 1e-3
    assert embedding(torch.zeros(0, 4)).shape == (0, DIMS)


def test_odd_boxes_stay_finite(embedding):
    # a point, beyond the image, inverted
    boxes = [[0.5] * 4, [-0.2, -0.1, 1.3, 1.2], [0.6, 0.6, 0.4, 0.4]]
    boxes = torch.tensor(boxes, requires_grad=True)
    out = embedding(boxes)
    assert out.isfinite().all()
    assert_trained(embedding, out.sum())
    assert boxes.grad.isfinite().all()


def test_fixed_frequencies_are_no_part_of_a_checkpoint(embedding):
    assert set(embedding.state_dict()) == {'proj.weight', 'proj.bias'}


def test_features_are_computed_in_fp32(embedding):
    boxes = torch.rand(20, 4)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = embedding(boxes)
    torch.testing.assert_close(
        out.float(), embedding(boxes), atol=0.05, rtol=0.05
    )
    half = boxes.bfloat16()
    assert torch.equal(embedding(half), embedding(half.float()))
