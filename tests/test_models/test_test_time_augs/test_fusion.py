import pytest
import torch

from mmfgl.models.test_time_augs.fusion import Predictions, fuse

VIEWS, ROIS, CLASSES = 4, 6, 3
FUSIONS = ['score_weighted', 'wbf']


@pytest.fixture
def predictions():
    torch.manual_seed(0)
    boxes = torch.rand(VIEWS, ROIS, 2 * CLASSES, 2) * 50
    boxes = boxes.unflatten(2, (CLASSES, 2)).sort(dim=3).values
    return (
        boxes.reshape(VIEWS, ROIS, 4 * CLASSES),
        torch.randn(VIEWS, ROIS, CLASSES + 1).softmax(-1),
        torch.rand(VIEWS, ROIS) + 0.1,
    )


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
    boxes = torch.tensor(
        [
            [[60.0, 60.0, 90.0, 90.0]],  # stray, although the best single one
            [[10.0, 10.0, 30.0, 30.0]],
            [[12.0, 10.0, 30.0, 30.0]],
        ]
    )
    scores = torch.tensor([[[0.7, 0.3]], [[0.6, 0.4]], [[0.6, 0.4]]])
    weights = torch.ones(3, 1)
    mean, _ = fused(boxes, scores, weights, 'wbf')
    expected = torch.tensor([[11.0, 10.0, 30.0, 30.0]])
    torch.testing.assert_close(mean, expected)
    # views without weight do not count
    weights[1:] = 0
    mean, _ = fused(boxes, scores, weights, 'wbf')
    torch.testing.assert_close(mean, boxes[0])


@pytest.mark.parametrize('fusion', FUSIONS)
def test_equal_boxes_stay_as_they_are(predictions, fusion):
    boxes, scores, weights = predictions
    boxes = boxes[:1].expand_as(boxes)
    assert torch.equal(fused(boxes, scores, weights, fusion)[0], boxes[0])


@pytest.mark.parametrize('fusion', FUSIONS)
def test_zero_scores_give_no_nan(predictions, fusion):
    boxes, scores, weights = predictions
    assert torch.equal(fused(boxes, scores * 0, weights, fusion)[0], boxes[0])


def test_unknown_number_of_boxes(predictions):
    boxes, scores, weights = predictions
    with pytest.raises(ValueError, match='2 boxes an RoI for 3 classes'):
        fused(boxes[..., :8], scores, weights)
