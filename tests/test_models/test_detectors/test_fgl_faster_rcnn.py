import pytest
import torch

from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    half_dtypes,
    randomise_weights,
    tiny_fgl_cfg,
)

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


@pytest.fixture(params=[dict(), GRID], ids=['rpn', 'grid'])
def source(request):
    return request.param


@pytest.mark.parametrize('num_boxes', [3, (3, 0), 0], ids=str)
def test_every_parameter_gets_a_gradient(source, num_boxes):
    model = build(**source)
    losses = losses_of(model, detection_batch(num_boxes=num_boxes))
    assert ('loss_rpn_cls' in losses) == (not source)
    assert_trained(model, model.parse_losses(losses)[0])


@pytest.mark.parametrize('num_targets', [None, 2])
def test_predictions(source, num_targets):
    model = build(num_targets=num_targets, **source)
    randomise_weights(model.roi_head, std=0.1).eval()
    batch = model.data_preprocessor(detection_batch())
    ((logits, deltas),) = model(**batch, mode='tensor')
    assert logits.shape == (len(deltas), CLASSES + 2) and len(deltas) > 10
    for result in model.test_step(detection_batch(num_boxes=(3, 0))):
        found = result.pred_instances
        assert 0 < len(found) <= 10
        assert found.bboxes.shape == (len(found), 4)
        # boxes are in pixels of the original image, twice the input's
        limits = torch.tensor(result.ori_shape[::-1] * 2)
        assert (found.bboxes >= 0).all() and (found.bboxes <= limits).all()
        assert found.bboxes.max() > 80
        assert (found.scores > 0).all() and (found.scores <= 1).all()
        assert (found.labels >= 0).all() and (found.labels < CLASSES).all()


def test_proposals(source):
    model = build(**source).eval()
    data = model.data_preprocessor(detection_batch())
    samples = data['data_samples']
    feats = model.extract_feat(data['inputs'])
    halves = tuple(level.bfloat16() for level in feats) if source else feats
    proposals = model.propose(halves, samples)
    for sample, proposal in zip(samples, proposals, strict=True):
        assert proposal.bboxes.dtype == torch.float32
        assert proposal.scores.shape == (len(proposal.bboxes),)
        if source:
            expected = model.region_proposer.propose(sample.metainfo)
            assert torch.equal(proposal.bboxes, torch.from_numpy(expected))
            assert (proposal.scores == 1).all()
        else:
            assert 0 < len(proposal) <= 20
            # ready-made proposals go before the RPN's
            sample.proposals = proposal[:3]
    again = model.propose(feats, samples)
    for one, other in zip(again, proposals, strict=True):
        assert len(one) == (len(other) if source else 3)
    # and predictions are made from the same
    (result, _) = model.predict(data['inputs'], samples)
    assert torch.equal(result.proposals.bboxes, again[0].bboxes)


@pytest.mark.parametrize(
    'changes', [dict(rpn_head=None), dict(region_proposer=GRID)], ids=str
)
def test_both_or_neither_source_of_candidates(changes):
    with pytest.raises(ValueError, match='exactly one of rpn_head and'):
        build(**changes)


def test_golden_losses():
    model = build()
    randomise_weights(model.rpn_head)
    randomise_weights(model.roi_head, std=0.1)
    _, log = model.parse_losses(losses_of(model, detection_batch()))
    expected = dict(loss_rpn_cls=9.56456, loss_rpn_bbox=34.4763, acc=25.0)
    expected.update(loss_cls=2.24487, loss_bbox=4.30029, loss=54.7028)
    expected.update(loss_quality=4.11678)
    values = {key: value.item() for key, value in log.items()}
    assert values == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize('dtype', half_dtypes())
def test_boxes_of_the_rpn_are_computed_in_fp32(dtype):
    model = build().eval()
    data = model.data_preprocessor(detection_batch(), False)
    with torch.no_grad(), torch.autocast('cpu', dtype):
        feats = model.extract_feat(data['inputs'])
        assert feats[0].dtype == dtype
        for maps in model.rpn_head(feats):
            assert {level.dtype for level in maps} == {torch.float32}
