import copy

import pytest
import torch
from mmengine.optim import OptimWrapper

from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
from mmfgl.registry import MODELS
from mmfgl.testing import detection_batch, randomise_weights, tiny_fgl_cfg

GRID = dict(
    rpn_head=None,
    region_proposer=dict(type='mmfgl.GridRegions', cell_sizes=(24, 40)),
)
CLASSES = 3


def build(seed=0, **options):
    torch.manual_seed(seed)
    return MODELS.build(tiny_fgl_cfg(CLASSES, **options))


def losses_of(model, batch):
    model.train()
    torch.manual_seed(0)
    return model(**model.data_preprocessor(batch, True), mode='loss')


@pytest.mark.parametrize('source', [dict(), GRID], ids=['rpn', 'grid'])
@pytest.mark.parametrize('num_boxes', [3, (3, 0), 0], ids=str)
def test_every_parameter_gets_a_gradient(source, num_boxes):
    model = build(**source)
    losses = losses_of(model, detection_batch(num_boxes=num_boxes))
    assert ('loss_rpn_cls' in losses) == (not source)
    value, _ = model.parse_losses(losses)
    assert value.isfinite()
    value.backward()
    for name, param in model.named_parameters():
        assert param.grad is not None, name
        assert param.grad.isfinite().all(), name


@pytest.mark.parametrize('source', [dict(), GRID], ids=['rpn', 'grid'])
@pytest.mark.parametrize('num_targets', [None, 2])
def test_predictions(source, num_targets):
    model = build(num_targets=num_targets, **source)
    randomise_weights(model.roi_head, std=0.1).eval()
    batch = detection_batch(sizes=[(64, 96), (80, 64)], num_boxes=(3, 0))
    for size, result in zip(
        [(128, 192), (160, 128)], model.test_step(batch), strict=True
    ):
        found = result.pred_instances
        assert 0 < len(found) <= 10
        assert found.bboxes.shape == (len(found), 4)
        # boxes are in pixels of the original image, twice the input's
        limits = torch.tensor([size[1], size[0]] * 2)
        assert (found.bboxes >= 0).all() and (found.bboxes <= limits).all()
        assert found.bboxes.max() > 80
        assert (found.scores > 0).all() and (found.scores <= 1).all()
        assert (found.labels >= 0).all() and (found.labels < CLASSES).all()


@pytest.mark.parametrize('source', [dict(), GRID], ids=['rpn', 'grid'])
def test_proposals(source):
    model = build(**source).eval()
    sizes = [(64, 96), (80, 64)]
    data = model.data_preprocessor(detection_batch(sizes=sizes))
    samples = data['data_samples']
    feats = model.extract_feat(data['inputs'])
    halves = tuple(level.bfloat16() for level in feats) if source else feats
    proposals = model.propose(halves, samples)
    for size, sample, proposal in zip(sizes, samples, proposals, strict=True):
        assert proposal.bboxes.dtype == torch.float32
        assert proposal.scores.shape == (len(proposal.bboxes),)
        if source:
            expected = model.region_proposer.propose(dict(img_shape=size))
            assert torch.equal(proposal.bboxes, torch.from_numpy(expected))
            assert proposal.scores.tolist() == [1] * len(expected)
        else:
            assert 0 < len(proposal) <= 20
            # ready-made proposals go before the RPN's
            sample.proposals = proposal[:3]
    again = model.propose(feats, samples)
    assert [len(p) for p in again] == (
        [len(p) for p in proposals] if source else [3, 3]
    )
    # and predictions are made from the same
    (result, _) = model.predict(data['inputs'], samples)
    assert torch.equal(result.proposals.bboxes, again[0].bboxes)


@pytest.mark.parametrize('source', [dict(), GRID], ids=['rpn', 'grid'])
def test_tensor_mode(source):
    model = build(**source).eval()
    batch = model.data_preprocessor(detection_batch())
    ((logits, deltas),) = model(**batch, mode='tensor')
    assert logits.shape[1] == CLASSES + 2
    assert deltas.shape == (len(logits), 4)
    assert len(logits) > 10


@pytest.mark.parametrize(
    'changes', [dict(rpn_head=None), dict(region_proposer=GRID)], ids=str
)
def test_both_or_neither_source_of_candidates(changes):
    with pytest.raises(ValueError, match='exactly one of rpn_head and'):
        build(**changes)


def test_training_lowers_the_loss():
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    wrapper = OptimWrapper(optimizer, clip_grad=dict(max_norm=5))
    values = []
    for _ in range(25):
        batch = detection_batch()
        values.append(model.train_step(batch, wrapper)['loss'].item())
    assert sum(values[-3:]) < 0.6 * sum(values[:3])


@pytest.mark.parametrize('source', [dict(), GRID], ids=['rpn', 'grid'])
def test_bf16_training_step(source, monkeypatch):
    monkeypatch.setattr('mmfgl.engine.optim_wrapper.get_device', lambda: 'cpu')
    model = build(**source)
    expected, _ = model.parse_losses(losses_of(model, detection_batch()))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = CPUAmpOptimWrapper(optimizer=optimizer)
    torch.manual_seed(0)
    log = model.train_step(detection_batch(), wrapper)
    assert log['loss'].dtype == torch.float32
    assert log['loss'].item() == pytest.approx(expected.item(), rel=0.1)
    moved = 0
    for name, param in model.named_parameters():
        assert param.dtype == torch.float32 and param.isfinite().all(), name
        moved += not torch.equal(param, before[name])
    assert moved > 40


def test_golden_losses():
    model = build()
    randomise_weights(model.rpn_head)
    randomise_weights(model.roi_head, std=0.1)
    _, log = model.parse_losses(losses_of(model, detection_batch()))
    values = {key: value.item() for key, value in log.items()}
    assert values == pytest.approx(
        dict(
            loss_rpn_cls=9.56456,
            loss_rpn_bbox=34.4763,
            loss_cls=2.24487,
            acc=25.0,
            loss_bbox=4.30029,
            loss_quality=4.11678,
            loss=54.7028,
        ),
        rel=1e-3,
    )
