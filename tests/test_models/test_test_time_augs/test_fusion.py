import pytest
import torch

from mmfgl.models.test_time_augs.fusion import Predictions, fuse

VIEWS, ROIS, CLASSES = 4, 6, 3


@pytest.fixture
def predictions():
    torch.manual_seed(0)
    corners = torch.rand(VIEWS, ROIS, CLASSES, 2, 2) * 50
    boxes = corners.sort(dim=3).values.flatten(2)
    scores = torch.randn(VIEWS, ROIS, CLASSES + 1).softmax(-1)
    return boxes, scores, torch.rand(VIEWS, ROIS) + 0.1


def fused(boxes, scores, weights, box_fusion='score_weighted'):
    return fuse(Predictions(boxes, scores, weights), box_fusion)


def test_scores_are_weighted_means():
    boxes = torch.zeros(2, 1, 4)
    scores = torch.tensor([[[0.2, 0.8]], [[0.6, 0.4]]])
    weights = torch.tensor([[1.0], [3.0]])
    _, mean = fused(boxes, scores, weights)
    torch.testing.assert_close(mean, torch.tensor([[0.5, 0.5]]))
    weights[1] = 0
    assert torch.equal(fused(boxes, scores, weights)[1], scores[0])


def test_each_class_weighs_its_own_box():
    boxes = torch.zeros(2, 1, 8)
    boxes[1] = 10
    scores = torch.tensor([[[0.1, 0.6, 0.3]], [[0.3, 0.2, 0.5]]])
    mean, _ = fused(boxes, scores, torch.ones(2, 1))
    expected = torch.tensor([[7.5] * 4 + [2.5] * 4])
    torch.testing.assert_close(mean, expected)
    # one box for all classes: the best class speaks, 0.6 against 0.3
    mean, _ = fused(boxes[..., :4], scores, torch.ones(2, 1))
    torch.testing.assert_close(mean, torch.full((1, 4), 10 / 3))


def test_wbf_leaves_a_stray_box_out():
    # the first is stray, although the best single one
    boxes = torch.tensor(
        [[60.0, 60, 90, 90], [10, 10, 30, 30], [12, 10, 30, 30]]
    )
    boxes = boxes.unsqueeze(1)
    scores = torch.tensor([[[0.7, 0.3]], [[0.6, 0.4]], [[0.6, 0.4]]])
    weights = torch.ones(3, 1)
    mean, _ = fused(boxes, scores, weights, 'wbf')
    torch.testing.assert_close(mean, torch.tensor([[11.0, 10, 30, 30]]))
    # views without weight do not count
    weights[1:] = 0
    mean, _ = fused(boxes, scores, weights, 'wbf')
    torch.testing.assert_close(mean, boxes[0])


@pytest.mark.parametrize('fusion', ['score_weighted', 'wbf'])
def test_equal_boxes_and_zero_scores(predictions, fusion):
    boxes, scores, weights = predictions
    assert torch.equal(fused(boxes, scores * 0, weights, fusion)[0], boxes[0])
    boxes = boxes[:1].expand_as(boxes)
    assert torch.equal(fused(boxes, scores, weights, fusion)[0], boxes[0])


def test_unknown_number_of_boxes(predictions):
    boxes, scores, weights = predictions
    with pytest.raises(ValueError, match='2 boxes an RoI for 3 classes'):
        fused(boxes[..., :8], scores, weights)
