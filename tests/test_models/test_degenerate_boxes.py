"""No degenerate box becomes a NaN loss, gradient or detection."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.models.task_modules import AssignResult, SamplingResult
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.datasets.transforms import PackRegionViews
from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
from mmfgl.models.layers import finite_boxes
from mmfgl.models.roi_heads import FGLBBoxHead
from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    half_dtypes,
    randomise_weights,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
    tiny_retod_cfg,
)
from tests.test_models.odd_boxes import (
    BOXES,
    DTYPES,
    EMPTY,
    MIXED,
    SIZE,
    USUAL,
    bf16,
)

SOUND = range(len(EMPTY), len(MIXED))


@contextmanager
def precision(model, dtype):
    """fp32, fp16, or bf16 as our optimizer wrapper runs it on a CPU."""
    if dtype == torch.float32:
        yield
        return
    if dtype == torch.float16:
        with torch.autocast('cpu', dtype):
            yield
        return
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = CPUAmpOptimWrapper(optimizer=optimizer)
    with wrapper.optim_context(model):
        yield


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


@pytest.mark.parametrize('dtype', [torch.float32, *half_dtypes()])
def test_proposals(dtype):
    """With every option that computes with boxes."""
    cfg = tiny_fgl_cfg(
        selector=dict(similarity_thr=0.9), bbox_head=dict(voting_iou=0.6)
    )
    cfg.roi_head.transformer.geometry_bias = True
    model = build(cfg)
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
