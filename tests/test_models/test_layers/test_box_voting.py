import pytest
import torch

from mmfgl.models.layers import vote_neighbours


def test_kept_boxes_move_to_their_neighbours():
    rows = [[0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 30, 30], [0, 0, 10, 10]]
    boxes = torch.tensor(rows, dtype=torch.float)
    # the last one is of another class
    scores = torch.tensor(
        [[0.6, 0.0, 0.4], [0.3, 0.0, 0.7], [0.9, 0.0, 0.1], [0.0, 0.9, 0.1]]
    )
    kept, labels = boxes[[0, 2, 3]], torch.tensor([0, 0, 1])
    expected = kept.clone()
    expected[0, 3] = (0.6 * 10 + 0.3 * 12) / 0.9
    got = vote_neighbours(kept, labels, boxes, scores, 0.8)
    torch.testing.assert_close(got, expected)
    # 10 / 12 is the IoU of the two neighbours
    assert torch.equal(vote_neighbours(kept, labels, boxes, scores, 0.9), kept)
    # one box a class: the boxes of other classes are no neighbours
    per_class = torch.cat([boxes, boxes + 50], dim=1)
    kept[2] += 50
    expected[2] += 50
    got = vote_neighbours(kept, labels, per_class, scores, 0.8)
    torch.testing.assert_close(got, expected)


def test_neighbours_of_nothing():
    boxes, scores = torch.rand(6, 12), torch.rand(6, 4)
    kept, labels = torch.zeros(2, 4), torch.zeros(2).long()
    # without area there is no neighbour
    for some in (kept, kept[:0]):
        got = vote_neighbours(some, labels[: len(some)], boxes, scores, 0.5)
        assert torch.equal(got, some)
    with pytest.raises(ValueError, match='2 boxes an RoI for 3 classes'):
        vote_neighbours(kept, labels, boxes[:, :8], scores, 0.5)
