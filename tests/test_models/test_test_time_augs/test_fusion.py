import pytest
import torch

from mmfgl.models.test_time_augs.fusion import (
    fuse_boxes,
    fuse_scores,
    with_fallback,
)

PASSES, ROIS, CLASSES = 4, 6, 3


@pytest.fixture
def evidence():
    torch.manual_seed(0)
    boxes = torch.rand(PASSES, ROIS, 4 * CLASSES) * 50
    scores = torch.randn(PASSES, ROIS, CLASSES + 1).softmax(-1)
    return boxes, scores, torch.rand(PASSES, ROIS) + 0.1


def test_scores_are_weighted_means():
    scores = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]])
    weights = torch.tensor([[1.0], [3.0]])
    fused = fuse_scores(scores, weights, 'weighted')
    torch.testing.assert_close(fused, torch.tensor([[0.5, 0.5]]))
    weights[1] = 0
    assert torch.equal(fuse_scores(scores, weights, 'mean'), scores[0])


def test_max_ignores_passes_without_weight():
    scores = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]])
    weights = torch.tensor([[1.0], [0.0]])
    assert torch.equal(fuse_scores(scores, weights, 'max'), scores[0])
    weights[1] = 0.1
    expected = torch.tensor([[0.6, 0.8]])
    assert torch.equal(fuse_scores(scores, weights, 'max'), expected)


def test_each_class_weighs_its_own_box():
    boxes = torch.zeros(2, 1, 8)
    boxes[1] = 10
    scores = torch.tensor([[[0.1, 0.6, 0.3]], [[0.3, 0.2, 0.5]]])
    fused = fuse_boxes(boxes, scores, torch.ones(2, 1), 'score_weighted')
    expected = torch.tensor([[7.5] * 4 + [2.5] * 4])
    torch.testing.assert_close(fused, expected)
    # one box for all classes: the best class speaks, 0.6 against 0.3
    fused = fuse_boxes(
        boxes[..., :4], scores, torch.ones(2, 1), 'score_weighted'
    )
    torch.testing.assert_close(fused, torch.full((1, 4), 10 / 3))


def test_voting_leaves_a_stray_box_out():
    boxes = torch.tensor(
        [
            [[60.0, 60.0, 90.0, 90.0]],  # stray, although the best single one
            [[10.0, 10.0, 30.0, 30.0]],
            [[12.0, 10.0, 30.0, 30.0]],
        ]
    )
    scores = torch.tensor([[[0.7, 0.3]], [[0.6, 0.4]], [[0.6, 0.4]]])
    weights = torch.ones(3, 1)
    fused = fuse_boxes(boxes, scores, weights, 'voting', vote_iou=0.6)
    expected = torch.tensor([[11.0, 10.0, 30.0, 30.0]])
    torch.testing.assert_close(fused, expected)
    # passes without weight do not vote
    weights[1:] = 0
    fused = fuse_boxes(boxes, scores, weights, 'voting', vote_iou=0.6)
    torch.testing.assert_close(fused, boxes[0])


def test_a_pass_without_weight_does_not_lead_the_vote():
    # the last box overlaps the four around it more than they each other
    moves = torch.tensor([[2, 0], [-2, 0], [0, 2], [0, -2], [0, 0]])
    boxes = torch.cat([moves + 10.0, moves + 20.0], dim=1)
    scores = torch.tensor([0.6, 0.4]).expand(5, 1, 2)
    weights = torch.ones(5, 1)
    fused = fuse_boxes(boxes[:, None], scores, weights, 'voting', 0.6)
    torch.testing.assert_close(fused, boxes[4:])
    weights[0], weights[4] = 1.1, 0
    fused = fuse_boxes(boxes[:, None], scores, weights, 'voting', 0.6)
    torch.testing.assert_close(fused, boxes[:1])


@pytest.mark.parametrize('mode', ['score_weighted', 'voting'])
def test_fused_boxes_lie_between_the_boxes(evidence, mode):
    boxes, scores, weights = evidence
    fused = fuse_boxes(boxes, scores, weights, mode)
    assert (fused >= boxes.amin(0) - 1e-4).all()
    assert (fused <= boxes.amax(0) + 1e-4).all()


@pytest.mark.parametrize('mode', ['score_weighted', 'voting', 'reference'])
def test_equal_boxes_stay_as_they_are(evidence, mode):
    boxes, scores, weights = evidence
    boxes = boxes[:1].expand_as(boxes)
    assert torch.equal(fuse_boxes(boxes, scores, weights, mode), boxes[0])


@pytest.mark.parametrize('mode', ['score_weighted', 'voting'])
def test_zero_scores_give_no_nan(evidence, mode):
    boxes, scores, weights = evidence
    fused = fuse_boxes(boxes, scores * 0, weights, mode)
    assert torch.equal(fused, boxes[0])


@pytest.mark.parametrize('mode', ['score_weighted', 'voting', 'reference'])
def test_no_rois(evidence, mode):
    boxes, scores, weights = (tensor[:, :0] for tensor in evidence)
    assert fuse_boxes(boxes, scores, weights, mode).shape == (0, 12)
    assert fuse_scores(scores, weights, 'mean').shape == (0, 4)


def test_unknown_number_of_boxes(evidence):
    boxes, scores, weights = evidence
    with pytest.raises(ValueError, match='2 boxes an RoI for 3 classes'):
        fuse_boxes(boxes[..., :8], scores, weights, 'score_weighted')


def test_fallback_is_the_first_pass():
    weights = torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.5, 0.0]])
    expected = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.5, 0.0]])
    assert torch.equal(with_fallback(weights), expected)
