"""Boxes without area, turned round, not finite, or outside the image.

They come from annotations of another image size, crops, and proposals of
files. Nothing may turn them into a NaN loss, gradient or detection.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.task_modules import AssignResult, SamplingResult
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.datasets.transforms import PackRegionViews
from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
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
from mmfgl.models.roi_heads import FGLBBoxHead
from mmfgl.models.task_modules import CandidateSelector
from mmfgl.models.test_time_augs import View
from mmfgl.models.test_time_augs.fusion import Predictions, fuse
from mmfgl.models.test_time_augs.proposals import merge_proposals, propose
from mmfgl.models.test_time_augs.scoring import view_weights
from mmfgl.models.test_time_augs.views import ViewBatch
from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    randomise_weights,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
    tiny_retod_cfg,
)

NAN, INF = float('nan'), float('inf')
SIZE = (64, 96)  # height, width
EMPTY = dict(
    no_width=(10, 5, 10, 30),
    no_height=(10, 5, 30, 5),
    point=(0, 0, 0, 0),
    turned=(30, 40, 10, 20),
    narrow_turned=(30, 20, 10, 40),
    clipped=(96, 64, 96, 64),
    nan=(10, NAN, 30, 40),
    infinite=(10, 5, INF, 30),
)
STRANGE = dict(
    sliver=(10, 5, 10 + 1e-5, 30),
    outside=(200, 200, 260, 240),
    negative=(-90, -60, -20, -10),
    all=(0, 0, 96, 64),
    huge=(-1e5, -1e5, 1e5, 1e5),
)
ODD = EMPTY | STRANGE
BOXES = torch.tensor(list(ODD.values())).float()
USUAL = torch.tensor([[8.0, 8, 40, 40], [30, 10, 90, 60]])
MIXED = torch.cat([BOXES, USUAL])
SOUND = range(len(EMPTY), len(MIXED))
DTYPES = [torch.float32, torch.bfloat16]


@contextmanager
def precision(model, dtype):
    """fp32, or bf16 as our optimizer wrapper runs it on a CPU."""
    if dtype == torch.float32:
        yield
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = CPUAmpOptimWrapper(optimizer=optimizer)
    with wrapper.optim_context(model):
        yield


def bf16(dtype):
    return torch.autocast(
        'cpu', torch.bfloat16, enabled=dtype == torch.bfloat16
    )


def build(cfg=None):
    torch.manual_seed(0)
    return MODELS.build(cfg or tiny_fgl_cfg()).train()


def check(model, dtype, losses_of):
    torch.manual_seed(0)
    with precision(model, dtype):
        losses = losses_of()
    assert_trained(model, model.parse_losses(losses)[0])


def batch_with(model, boxes):
    """An image whose objects are these boxes, and one of usual objects."""
    batch = detection_batch([SIZE, SIZE])
    labels = torch.arange(len(boxes)) % 3
    truth = InstanceData(bboxes=boxes.clone(), labels=labels)
    batch['data_samples'][0].gt_instances = truth
    return model.data_preprocessor(batch, True)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('boxes', [MIXED, BOXES, MIXED[:8]], ids=len)
def test_objects(boxes, dtype):
    model = build()
    batch = batch_with(model, boxes)
    check(model, dtype, lambda: model(**batch, mode='loss'))
    left = batch['data_samples'][0].gt_instances.bboxes
    assert torch.equal(left, boxes[[i for i in SOUND if i < len(boxes)]])


def test_each_object_alone():
    model = build()
    for box in BOXES:
        batch = batch_with(model, box[None])
        losses = model(**batch, mode='loss')
        assert model.parse_losses(losses)[0].isfinite(), box


@pytest.mark.parametrize('dtype', DTYPES)
def test_proposals(dtype):
    model = build()
    batch = batch_with(model, USUAL)
    feats = model.extract_feat(batch['inputs'])
    scores = torch.linspace(0, 1, len(MIXED))
    proposals = [InstanceData(bboxes=MIXED, scores=scores)] * 2
    samples = batch['data_samples']
    with precision(model, dtype):
        losses = model.roi_head.loss(feats, proposals, samples)
    assert_trained(model.roi_head, model.parse_losses(losses)[0])
    model.eval()
    with torch.no_grad(), precision(model, dtype):
        found = model.roi_head.predict(feats, proposals, samples)
    for result in found:
        assert len(result)
        assert result.bboxes.isfinite().all()
        assert result.scores.isfinite().all()


@pytest.mark.parametrize('dtype', DTYPES)
def test_images_of_a_pixel(dtype):
    sizes = [(1, 1), (1, 96), (64, 1)]
    model = build()
    batch = model.data_preprocessor(detection_batch(sizes), True)
    check(model, dtype, lambda: model(**batch, mode='loss'))
    model.eval()
    for result in model.test_step(detection_batch(sizes)):
        assert result.pred_instances.bboxes.isfinite().all()
        assert result.pred_instances.scores.isfinite().all()


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('plain', [False, True])
def test_objectness(dtype, plain):
    cfg = tiny_retod_cfg('objectness')
    if plain:
        cfg.detector = tiny_plain_detector_cfg(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build(cfg)
    batch = region_batch(num_objects=3)
    sample = batch['data_samples'][0]
    image = dict(
        views=[np.zeros((64, 64, 3), np.uint8)] * 2,
        boxes=sample.boxes.numpy(),
        rows=sample.rows.numpy(),
        objects=[MIXED.numpy()] * 2,
        object_labels=[np.zeros(len(MIXED), np.int64)] * 2,
        object_rows=[np.arange(len(MIXED))] * 2,
    )
    batch['data_samples'][0] = PackRegionViews()(image)['data_samples']
    batch = model.data_preprocessor(batch, True)
    model.teacher_is_driven = True
    check(model, dtype, lambda: model(**batch, mode='loss'))


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('agnostic', [False, True])
@pytest.mark.parametrize('decoded', [False, True])
def test_box_head(dtype, agnostic, decoded):
    """Also of targets that nobody has left out: quality and box deltas."""
    options = dict(reg_class_agnostic=agnostic, reg_decoded_bbox=decoded)
    if decoded:
        options['loss_bbox'] = dict(type='mmdet.GIoULoss')
    head = randomise_weights(
        FGLBBoxHead(in_channels=8, num_classes=3, **options)
    )
    priors = finite_boxes(MIXED)
    for truth in (MIXED, USUAL[:1].expand_as(MIXED)):
        sampled = SamplingResult(
            pos_inds=torch.arange(len(MIXED)),
            neg_inds=torch.zeros(0).long(),
            priors=priors,
            gt_bboxes=truth,
            assign_result=AssignResult(
                len(truth),
                torch.arange(len(MIXED)) + 1,
                torch.ones(len(MIXED)),
                torch.zeros(len(MIXED)).long(),
            ),
            gt_flags=torch.zeros(len(MIXED), dtype=torch.uint8),
        )
        tokens = torch.ones(len(MIXED), 8)
        rois = F.pad(priors, (1, 0))
        train_cfg = ConfigDict(pos_weight=-1)
        with bf16(dtype):
            outputs = head(tokens)
            losses = head.loss_and_target(
                *outputs, rois, [sampled], train_cfg
            )['loss_bbox']
        losses.pop('acc')
        head.zero_grad()
        assert_trained(head, sum(losses.values()))


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


def test_selector():
    selector = CandidateSelector(score_thr=0.5, num_targets=4, min_kept=2)
    scores = torch.linspace(0, 1, len(MIXED))
    chosen = selector.select(finite_boxes(MIXED), SIZE, scores)
    assert len(chosen.targets) == 4 and chosen.context.any()


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
