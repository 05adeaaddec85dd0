import pytest
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmfgl.models.layers import vote_neighbours
from mmfgl.models.roi_heads import FGLBBoxHead
from mmfgl.testing import assert_trained, randomise_weights

CLASSES, WIDTH = 3, 8
META = dict(img_shape=(64, 96), scale_factor=(0.5, 0.5))
TEST_CFG = ConfigDict(
    score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5
)
DECODED = dict(reg_decoded_bbox=True, loss_bbox=dict(type='mmdet.GIoULoss'))
MSE = dict(loss_bbox=dict(type='mmdet.MSELoss'))
KINDS = [
    dict(reg_class_agnostic=agnostic, **loss)
    for agnostic in (True, False)
    for loss in (dict(), DECODED, MSE)
]
SEESAW = dict(type='SeesawLoss', num_classes=CLASSES)
MIXED = [0, 2, CLASSES, CLASSES, 1, CLASSES]


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def build(cls=FGLBBoxHead, std=0.5, **options):
    """A head whose parameters are drawn at random, the same for the same."""
    if cls is BBoxHead:
        options['roi_feat_size'] = 1
    head = cls(in_channels=WIDTH, num_classes=CLASSES, **options)
    return randomise_weights(head, std)


def tokens(num=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, WIDTH, generator=generator)


def make_rois(num=6):
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(num, 2, generator=generator) * 40
    sides = 10 + 10 * torch.rand(num, 2, generator=generator)
    return torch.cat([torch.zeros(num, 1), corner, corner + sides], dim=1)


def true_boxes(rois):
    return rois[:, 1:] + torch.tensor([1.0, -2, 2, 1])


def loss_args(head, labels=MIXED):
    """Arguments of ``loss`` after the outputs of the layers."""
    labels, rois = torch.tensor(labels).long(), make_rois(len(labels))
    truth = true_boxes(rois)
    if not head.reg_decoded_bbox:
        truth = head.bbox_coder.encode(rois[:, 1:], truth)
    weights = (labels < CLASSES).float()[:, None].repeat(1, 4)
    return rois, labels, torch.ones(len(labels)), truth * weights, weights


def predict(head, rcnn_test_cfg, num=6, rescale=False):
    outputs = ([values] for values in (make_rois(num), *head(tokens(num))))
    (result,) = head.predict_by_feat(*outputs, [META], rcnn_test_cfg, rescale)
    return result


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize(
    'labels', [MIXED, [CLASSES] * 6, [1], []], ids=['mixed', 'bg', '1', '0']
)
def test_finite_and_every_parameter_in_the_graph(kind, labels):
    head = build(**kind)
    args = loss_args(head, labels)
    losses = head.loss(*head(tokens(len(labels))), *args)
    assert set(losses) - {'acc'} == {'loss_cls', 'loss_bbox', 'loss_quality'}
    losses.pop('acc', None)
    assert_trained(head, sum(losses.values()))


def test_boxes_without_finite_deltas_train_no_box():
    head = build()
    args, weightless = loss_args(head), loss_args(head)
    args[-2][0] = float('nan')
    weightless[-1][0] = 0
    odd = head.loss(*head(tokens()), *args)
    expected = head.loss(*head(tokens()), *weightless)
    for key in ('loss_cls', 'loss_bbox'):
        assert torch.equal(odd[key], expected[key])


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_class_and_box_losses_are_the_parents(kind):
    heads = build(**kind), build(BBoxHead, **kind)
    losses, expected = (h.loss(*h(tokens()), *loss_args(h)) for h in heads)
    assert expected['loss_bbox'] > 0
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_quality_learns_the_iou_of_the_predicted_box(kind):
    head = build(std=0.1, **kind)
    logits, deltas = head(tokens())
    args = loss_args(head)
    rois, labels = args[:2]
    positive = labels < CLASSES
    boxes = head.bbox_coder.decode(rois[:, 1:], deltas).view(6, -1, 4)
    chosen = boxes[positive, labels[positive] % boxes.shape[1]]
    truth = true_boxes(rois)[positive]
    iou = bbox_overlaps(chosen, truth, is_aligned=True).detach()
    assert (iou > 0.3).all() and (iou < 0.99).all()
    expected = F.binary_cross_entropy_with_logits(logits[positive, -1], iou)
    loss = head.loss(logits, deltas, *args)['loss_quality']
    torch.testing.assert_close(loss, expected)
    # and moves neither boxes nor classes
    loss.backward()
    grads = {k: v.grad for k, v in head.named_parameters()}
    moved = {k for k, v in grads.items() if v is not None and v.any()}
    assert moved == {'fc_quality.weight', 'fc_quality.bias'}


@pytest.mark.parametrize('agnostic', [True, False])
@pytest.mark.parametrize('rescale', [True, False])
@pytest.mark.parametrize('cfg', [TEST_CFG, None], ids=['nms', 'raw'])
def test_without_quality_it_is_plain_prediction(agnostic, rescale, cfg):
    head = build(quality_weight=0, reg_class_agnostic=agnostic)
    plain = build(BBoxHead, reg_class_agnostic=agnostic)
    result, expected = (
        dict(predict(h, cfg, rescale=rescale).items()) for h in (head, plain)
    )
    assert len(expected['scores']) > 1
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


@pytest.mark.parametrize('weight', [0.3, 0.9])
def test_final_score(weight):
    head = build(quality_weight=weight)
    scores = predict(head, None).scores
    logits, _ = head(tokens())
    probs = logits[:, :-1].softmax(dim=1)
    quality = logits[:, -1:].sigmoid()
    expected = probs[:, :-1] ** (1 - weight) * quality**weight
    torch.testing.assert_close(scores[:, :-1], expected)
    torch.testing.assert_close(scores[:, -1], probs[:, -1])


@pytest.mark.parametrize('agnostic', [True, False])
@pytest.mark.parametrize('rescale', [True, False])
def test_kept_boxes_move_to_their_neighbours(agnostic, rescale):
    options = dict(reg_class_agnostic=agnostic, std=0.1)
    plain = predict(build(**options), TEST_CFG, num=40, rescale=rescale)
    head = build(voting_iou=0.3, **options)
    moved = predict(head, TEST_CFG, num=40, rescale=rescale)
    assert torch.equal(moved.scores, plain.scores)
    assert torch.equal(moved.labels, plain.labels)
    assert not torch.allclose(moved.bboxes, plain.bboxes)
    rows = predict(head, None, num=40, rescale=rescale)
    kept = plain.bboxes, plain.labels
    expected = vote_neighbours(*kept, rows.bboxes, rows.scores, 0.3)
    assert torch.equal(moved.bboxes, expected)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_background_is_certain(dtype):
    head = build(quality_weight=0.3)
    none = torch.zeros(0, CLASSES + 2, dtype=dtype), torch.zeros(0, 4)
    targets = [torch.zeros(0, dtype=torch.long)] * 2
    logits, deltas = head.fill_background(*none, targets, [1, 3])
    assert logits.dtype == dtype
    assert torch.equal(deltas, torch.zeros(4, 4))
    args = (make_rois(4),), (logits,), (torch.zeros(4, 4 * CLASSES),), [META]
    (result,) = head.predict_by_feat(*args, None)
    assert result.scores.tolist() == [[0.0] * CLASSES + [1.0]] * 4
    cfg = ConfigDict(TEST_CFG, score_thr=0.0)
    assert len(head.predict_by_feat(*args, cfg)[0]) == 0


def test_targets_go_to_their_rows():
    score, delta = torch.randn(3, CLASSES + 2), torch.randn(3, 4)
    targets = [torch.tensor([1]), torch.tensor([2, 0])]
    logits, deltas = build().fill_background(score, delta, targets, [2, 3])
    assert torch.equal(logits[[1, 4, 2]], score)
    assert torch.equal(deltas[[1, 4, 2]], delta)
    assert not deltas[[0, 3]].any()


@pytest.mark.parametrize('voting_iou', [None, 0.5])
def test_no_roi(voting_iou):
    head = build(voting_iou=voting_iou)
    certain = ConfigDict(TEST_CFG, score_thr=1.1)  # nothing is kept
    for result in (predict(head, TEST_CFG, num=0), predict(head, certain)):
        assert result.bboxes.shape == (0, 4)
        assert result.scores.shape == result.labels.shape == (0,)
    assert predict(head, None, num=0).scores.shape == (0, CLASSES + 1)


def test_initial_weights():
    torch.manual_seed(0)
    head = FGLBBoxHead(in_channels=400, num_classes=CLASSES)
    head.init_weights()
    for name, std in dict(fc_cls=0.01, fc_reg=0.001, fc_quality=0.01).items():
        weight = getattr(head, name).weight
        assert weight.std().item() == pytest.approx(std, rel=0.15)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        *((dict(quality_weight=x), r'must lie in \[0, 1') for x in (-0.1, 1)),
        *((dict(voting_iou=x), r'must lie in \(0, 1') for x in (0, 1.1)),
        (dict(loss_cls=SEESAW), 'SeesawLoss brings its own class'),
        (dict(with_reg=False), 'needs both with_cls and with_reg'),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
