import pytest
import torch
import torch.nn.functional as F
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.structures.bbox import bbox_overlaps
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmfgl.models.layers import vote_neighbours
from mmfgl.models.roi_heads import FGLBBoxHead

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
MIXED = [0, 2, CLASSES, CLASSES, 1, CLASSES]


@pytest.fixture(autouse=True)
def mmdet_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def build(cls=FGLBBoxHead, std=0.5, **options):
    """A head whose parameters are drawn at random, the same for the same."""
    torch.manual_seed(0)
    kwargs = dict(in_channels=WIDTH, num_classes=CLASSES, **options)
    if cls is BBoxHead:
        kwargs['roi_feat_size'] = 1
    head = cls(**kwargs)
    for name, param in head.named_parameters():
        seed = sum(map(ord, name))
        generator = torch.Generator().manual_seed(seed)
        param.data = torch.randn(param.shape, generator=generator) * std
    return head


def tokens(num=6):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, WIDTH, generator=generator)


def make_rois(num=6):
    generator = torch.Generator().manual_seed(2)
    corner = torch.rand(num, 2, generator=generator) * 40
    sides = 10 + 10 * torch.rand(num, 2, generator=generator)
    return torch.cat([torch.zeros(num, 1), corner, corner + sides], dim=1)


def targets(head, labels, rois):
    """Arguments of ``loss`` after ``rois``."""
    labels = torch.tensor(labels, dtype=torch.long)
    truth = rois[:, 1:] + torch.tensor([1.0, -2, 2, 1])
    if not head.reg_decoded_bbox:
        truth = head.bbox_coder.encode(rois[:, 1:], truth)
    weights = ((labels >= 0) & (labels < CLASSES)).float()
    return (
        labels,
        torch.ones(len(labels)),
        truth * weights[:, None],
        weights[:, None].expand(-1, 4),
    )


def loss(head, labels, scale=1.0):
    rois = make_rois(len(labels))
    return head.loss(
        *head(tokens(len(labels)) * scale), rois, *targets(head, labels, rois)
    )


def predict(head, rcnn_test_cfg, num=6, **kwargs):
    rois = make_rois(num)
    (result,) = head.predict_by_feat(
        (rois,),
        *((out,) for out in head(tokens(num))),
        [META],
        rcnn_test_cfg=rcnn_test_cfg,
        **kwargs,
    )
    return result


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize(
    'labels', [MIXED, [CLASSES] * 6, [1], []], ids=['mixed', 'bg', '1', '0']
)
@pytest.mark.parametrize('odd', [False, True])
def test_finite_and_every_parameter_in_the_graph(kind, labels, odd):
    head = build(**kind)
    rois = make_rois(len(labels))
    args = list(targets(head, labels, rois))
    if odd:
        # deltas to objects without area, or with a negative side
        rois[::2, 3] = rois[::2, 1] - 1
        args[2][::2, 2] = float('-inf')
        args[2][::2, 3] = float('nan')
    losses = head.loss(*head(tokens(len(labels))), rois, *args)
    expected = {'loss_cls', 'loss_bbox', 'loss_quality'}
    assert {key for key in losses if 'loss' in key} == expected
    total = sum(value for key, value in losses.items() if 'loss' in key)
    assert total.isfinite()
    total.backward()
    for name, param in head.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name


def test_boxes_without_finite_deltas_train_no_box():
    head = build()
    rois, outputs = make_rois(), head(tokens())
    args = list(targets(head, MIXED, rois))
    args[2][0] = float('nan')
    odd = head.loss(*outputs, rois, *args)
    args = list(targets(head, MIXED, rois))
    args[3] = args[3].clone()
    args[3][0] = 0
    weightless = head.loss(*outputs, rois, *args)
    for key in ('loss_cls', 'loss_bbox'):
        assert torch.equal(odd[key], weightless[key])


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_class_and_box_losses_are_the_parents(kind):
    losses = loss(build(**kind), MIXED)
    expected = loss(build(BBoxHead, **kind), MIXED)
    assert expected['loss_bbox'] > 0
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value)


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_quality_learns_the_iou_of_the_predicted_box(kind):
    head = build(std=0.1, **kind)
    logits, deltas = head(tokens())
    rois = make_rois()
    truth = rois[:, 1:] + torch.tensor([1.0, -2, 2, 1])
    labels = torch.tensor(MIXED)
    positive = labels < CLASSES
    boxes = head.bbox_coder.decode(rois[:, 1:], deltas).view(6, -1, 4)
    column = torch.zeros_like(labels) if boxes.shape[1] == 1 else labels
    chosen = boxes[positive, column[positive]]
    iou = bbox_overlaps(chosen, truth[positive], is_aligned=True)
    assert (iou > 0.3).all() and (iou < 0.99).all()
    expected = F.binary_cross_entropy_with_logits(
        logits[positive, -1], iou.detach()
    )
    torch.testing.assert_close(loss(head, MIXED)['loss_quality'], expected)


def test_quality_loss_moves_neither_boxes_nor_classes():
    head = build()
    loss(head, MIXED)['loss_quality'].backward()
    grads = {
        name: param.grad is not None and bool(param.grad.any())
        for name, param in head.named_parameters()
    }
    assert {name for name, moved in grads.items() if moved} == {
        'fc_quality.weight',
        'fc_quality.bias',
    }


def test_losses_are_fp32_under_autocast():
    head = build()
    rois = make_rois()
    with torch.autocast('cpu', torch.bfloat16):
        outputs = head(tokens())
        assert outputs[0].dtype == torch.bfloat16
        losses = head.loss(*outputs, rois, *targets(head, MIXED, rois))
    expected = loss(head, MIXED)
    for key, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[key], rtol=0.05, atol=0.01)


@pytest.mark.parametrize('agnostic', [True, False])
@pytest.mark.parametrize('rescale', [True, False])
def test_without_quality_it_is_plain_prediction(agnostic, rescale):
    head = build(quality_weight=0, reg_class_agnostic=agnostic)
    plain = build(BBoxHead, reg_class_agnostic=agnostic)
    for cfg in (TEST_CFG, None):
        result = predict(head, cfg, rescale=rescale)
        expected = predict(plain, cfg, rescale=rescale)
        assert len(expected) > 1
        assert set(result.keys()) == set(expected.keys())
        for key in expected.keys():  # noqa: SIM118
            assert torch.equal(result[key], expected[key])


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
    expected = vote_neighbours(
        plain.bboxes, plain.labels, rows.bboxes, rows.scores, 0.3
    )
    assert torch.equal(moved.bboxes, expected)


def test_golden_losses():
    losses = {k: v.item() for k, v in loss(build(), MIXED).items()}
    assert losses == pytest.approx(
        dict(
            loss_cls=1.35145,
            acc=100 / 3,
            loss_bbox=2.19154,
            loss_quality=0.820338,
        ),
        rel=1e-4,
    )


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_background_logits_are_certain(dtype):
    head = build(quality_weight=0.3)
    logits = head.background_logits(4, torch.zeros(1, dtype=dtype))
    assert logits.shape == (4, CLASSES + 2) and logits.dtype == dtype
    args = (make_rois(4),), (logits,), (torch.zeros(4, 4 * CLASSES),), [META]
    (result,) = head.predict_by_feat(*args, None)
    assert result.scores.tolist() == [[0.0] * CLASSES + [1.0]] * 4
    cfg = ConfigDict(TEST_CFG, score_thr=0.0)
    assert len(head.predict_by_feat(*args, cfg)[0]) == 0


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
    for layer, std in (('cls', 0.01), ('reg', 0.001), ('quality', 0.01)):
        layer = getattr(head, f'fc_{layer}')
        assert layer.weight.std().item() == pytest.approx(std, rel=0.15)
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(quality_weight=-0.1), r'quality_weight must lie in \[0, 1'),
        (dict(quality_weight=1.0), r'quality_weight must lie in \[0, 1'),
        (dict(voting_iou=0), r'voting_iou must lie in \(0, 1'),
        (dict(voting_iou=1.1), r'voting_iou must lie in \(0, 1'),
        (
            dict(loss_cls=dict(type='SeesawLoss', num_classes=CLASSES)),
            'SeesawLoss brings its own class',
        ),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
