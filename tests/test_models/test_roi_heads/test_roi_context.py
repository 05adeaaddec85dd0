"""Images that go through the head together are as they are alone."""

import copy

import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.task_modules import SamplingResult
from mmdet.structures.bbox import bbox2roi
from mmengine.config import ConfigDict

from mmfgl.models.roi_heads import RoIContext
from mmfgl.models.roi_heads.roi_context import batch_rois
from mmfgl.registry import MODELS
from mmfgl.testing import detection_batch, randomise_weights, tiny_fgl_cfg

SIZE = (64, 96)
FILTERS = dict(similarity_thr=0.3, score_thr=0.2, min_kept=3)


def boxes_of(num, seed):
    (sample,) = detection_batch([SIZE], num, seed=seed)['data_samples']
    return sample.gt_instances.bboxes


def contexts_of(counts=(8, 8, 8), seed=0, scored=True):
    draw = torch.Generator().manual_seed(seed)
    return [
        RoIContext(
            boxes_of(num, seed + index),
            SIZE,
            torch.rand(num, generator=draw) if scored else None,
            torch.rand(num, generator=draw) > 0.3,
        )
        for index, num in enumerate(counts)
    ]


def roi_head(**selector):
    cfg = tiny_fgl_cfg(selector=selector)
    cfg.roi_head.train_cfg = cfg.train_cfg.rcnn
    return randomise_weights(MODELS.build(cfg.roi_head)).train()


def pyramid(num):
    draw = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(num, 16, 64 // s, 96 // s, generator=draw)
        for s in (4, 8, 16, 32)
    )


@pytest.mark.parametrize('scored', [True, False])
@pytest.mark.parametrize('selector', [{}, FILTERS], ids=str)
def test_images_together_are_images_alone(monkeypatch, selector, scored):
    head = roi_head(**selector)
    contexts = contexts_of(scored=scored)
    rois = batch_rois([context.boxes for context in contexts])
    asked, select = [], head.selector.select

    def spy(boxes, *args, **kwargs):
        asked.append(boxes.shape)
        return select(boxes, *args, **kwargs)

    monkeypatch.setattr(head.selector, 'select', spy)
    together = head._bbox_forward(pyramid(3), rois, contexts)
    assert asked == [(3, 8, 4)]
    monkeypatch.setattr(RoIContext, 'stack', lambda contexts: None)
    alone = head._bbox_forward(pyramid(3), rois, contexts)
    assert asked[1:] == [(8, 4)] * 3
    for name in ('cls_score', 'bbox_pred'):
        torch.testing.assert_close(together[name], alone[name])


def test_stack():
    contexts = contexts_of()
    whole = RoIContext.stack(contexts)
    assert whole.boxes.shape == (3, 8, 4) and whole.scores.shape == (3, 8)
    assert torch.equal(whole.attendable[1], contexts[1].attendable)
    assert whole.attention_mask is None
    for change in (
        dict(img_shape=(64, 95)),
        dict(img_shape=torch.tensor(SIZE)),
        dict(scores=None),
        dict(attention_mask=torch.eye(8) > 0),
    ):
        other = copy.copy(contexts[1])
        vars(other).update(change)
        assert RoIContext.stack([contexts[0], other]) is None
        assert RoIContext.stack([other, contexts[0]]) is None
    assert RoIContext.stack(contexts_of((8, 7))) is None


@pytest.mark.parametrize('counts', [(4, 0, 2), (0, 0), (3,)])
def test_rois_are_mmdets(counts):
    boxes = [boxes_of(num, seed) for seed, num in enumerate(counts)]
    assert torch.equal(batch_rois(boxes), bbox2roi(boxes))


def sampled(num_pos, num_neg, seed):
    result = SamplingResult.__new__(SamplingResult)
    result.pos_priors = boxes_of(num_pos, seed)
    result.pos_gt_bboxes = result.pos_priors + 2
    result.pos_gt_labels = torch.arange(num_pos) % 3
    result.neg_priors = boxes_of(num_neg, seed + 100)
    return result


@pytest.mark.parametrize(
    'counts', [[(3, 5), (0, 4), (2, 0)], [(0, 3), (0, 0)], [(2, 2)]], ids=str
)
@pytest.mark.parametrize('decoded', [False, True])
def test_targets_are_the_parents(counts, decoded):
    head = roi_head().bbox_head
    head.reg_decoded_bbox = decoded
    given = [sampled(*pair, seed) for seed, pair in enumerate(counts)]
    cfg = ConfigDict(pos_weight=0.5)
    expected = BBoxHead.get_targets(head, given, cfg)
    for ours, theirs in zip(
        head.get_targets(given, cfg), expected, strict=True
    ):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    parts = head.get_targets(given, cfg, concat=False)
    assert [len(part) for part in parts[0]] == [sum(pair) for pair in counts]
