"""Nothing that computes with boxes makes a NaN of degenerate ones."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from mmfgl.models.layers import (
    GeometryBias,
    border_overlap,
    finite_boxes,
    has_area,
    iou_attention_mask,
    log_geometry,
    normalise_boxes,
    pairwise_iou,
    vote_neighbours,
)
from mmfgl.models.test_time_augs import View
from mmfgl.models.test_time_augs.fusion import Predictions, fuse
from mmfgl.models.test_time_augs.proposals import merge_proposals, propose
from mmfgl.models.test_time_augs.scoring import view_weights
from mmfgl.models.test_time_augs.views import ViewBatch
from mmfgl.testing import assert_trained, randomise_weights
from tests.test_models.odd_boxes import DTYPES, MIXED, SIZE, bf16


@pytest.mark.parametrize('dtype', [*DTYPES, torch.float16])
def test_geometry(dtype):
    # areas of fp16 end at 65,504
    boxes = finite_boxes(MIXED).clamp(-100, 100).to(dtype)
    iou = pairwise_iou(boxes, boxes)
    assert ((iou >= 0) & (iou <= 1.01)).all()
    assert not iou[~has_area(boxes)].any()
    mask = iou_attention_mask(MIXED.to(dtype))
    assert mask.diagonal().all()
    assert log_geometry(boxes[:, None], boxes[None]).isfinite().all()
    assert border_overlap(boxes.float(), SIZE, 0.02).isfinite().all()
    assert normalise_boxes(boxes, (1, 1)).isfinite().all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_attention_bias(dtype):
    bias = randomise_weights(GeometryBias(2))
    boxes = finite_boxes(MIXED)[None]
    mask = iou_attention_mask(boxes)
    with bf16(dtype):
        scores = bias(mask, boxes, boxes)
    weights = scores.float().softmax(-1)
    assert weights.isfinite().all()
    assert_trained(bias, weights.square().sum())


@pytest.mark.parametrize('dtype', DTYPES)
def test_box_voting(dtype):
    boxes = finite_boxes(MIXED).to(dtype)
    scores = torch.full((len(boxes), 2), 0.5, dtype=dtype)
    labels = torch.zeros(len(boxes)).long()
    moved = vote_neighbours(boxes, labels, boxes, scores, 0.5)
    assert moved.isfinite().all()
    without = ~has_area(boxes)
    assert torch.equal(moved[without], boxes[without])  # nobody votes


@pytest.mark.parametrize('flip', [None, 'horizontal', 'diagonal'])
def test_tta_mapping(flip):
    whole = View((0.5, 0.5), (32, 48))
    strip = View((0.5, 0.002), (1, 48), flip)
    boxes = finite_boxes(MIXED)
    there = whole.to(boxes, strip)
    assert there.isfinite().all()
    torch.testing.assert_close(
        strip.to(there, whole), boxes, rtol=1e-4, atol=0.05
    )
    weights = view_weights([whole, strip], boxes)
    assert (weights.sum(0) > 0).all()


def test_tta_fusion():
    boxes = finite_boxes(MIXED).expand(2, -1, -1)
    scores = torch.zeros(2, len(MIXED), 3)  # nobody believes in any
    weights = torch.ones(2, len(MIXED))
    for fusion in ('score_weighted', 'wbf'):
        fused, _ = fuse(Predictions(boxes, scores, weights), fusion)
        assert torch.equal(fused, boxes[0])


def test_tta_proposals():
    given = InstanceData(bboxes=MIXED, scores=torch.ones(len(MIXED)))
    sample = DetDataSample(proposals=given)
    views = [View((1, 1), SIZE), View((0.5, 0.5), (32, 48))]
    batches = [ViewBatch([view], [sample], ()) for view in views]
    (found,) = propose(None, batches)
    assert found.bboxes.isfinite().all()
    rpn = dict(nms=dict(type='nms', iou_threshold=0.7), max_per_img=50)
    merged = merge_proposals([found] * 2, views[0], rpn)
    assert merged.bboxes.isfinite().all()
    assert (merged.bboxes >= 0).all()
