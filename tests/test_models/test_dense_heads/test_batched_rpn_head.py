"""The batched RPN against mmdet's, which goes image by image."""

import copy

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.models.dense_heads import batched_nms
from mmfgl.registry import MODELS
from mmfgl.testing import half_dtypes
from mmfgl.testing.pretend_gpu import PretendGPU

SIZE = (64, 128)
STRIDES = (8, 16, 32)
MAPS = [(SIZE[0] // s, SIZE[1] // s) for s in STRIDES]
NUM_ANCHORS = 4 * sum(height * width for height, width in MAPS)


def meta(img_shape=SIZE, pad_shape=SIZE):
    return dict(
        img_shape=img_shape, pad_shape=pad_shape, scale_factor=(1.0, 1.0)
    )


def make(kind, assigner=None, sampler=None, border=-1, **test_cfg):
    """An RPN of mmdet or of mmfgl, of one seed, and its maps' sizes."""
    assigner = dict(
        type='MaxIoUAssigner',
        pos_iou_thr=0.6,
        neg_iou_thr=0.3,
        min_pos_iou=0.2,
        ignore_iof_thr=-1,
        **(assigner or {}),
    )
    sampler = {
        'type': 'RandomSampler',
        'num': 4000,
        'pos_fraction': 0.5,
        'neg_pos_ub': -1,
        'add_gt_as_proposals': False,
        **(sampler or {}),
    }
    test_cfg = {
        'nms_pre': 64,
        'max_per_img': 40,
        'nms': dict(type='nms', iou_threshold=0.6),
        'min_bbox_size': 0,
        **test_cfg,
    }
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            ConfigDict(
                type=kind,
                in_channels=8,
                feat_channels=8,
                anchor_generator=dict(
                    type='AnchorGenerator',
                    scales=[2, 4],
                    ratios=[0.5, 1.0],
                    strides=list(STRIDES),
                ),
                train_cfg=dict(
                    assigner=assigner,
                    sampler=sampler,
                    allowed_border=border,
                    pos_weight=-1,
                ),
                test_cfg=test_cfg,
                _scope_='mmdet',
            )
        )


def pair(**options):
    """mmdet's head and the batched one."""
    return make('RPNHead', **options), make('mmfgl.BatchedRPNHead', **options)


def truths(*counts, seed=0):
    """True boxes of images, some twice the same."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        centres = torch.rand(count, 2, generator=generator)
        centres = centres * torch.tensor([SIZE[1], SIZE[0]])
        sides = 8 + 40 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1)
        boxes[count // 2 :] = boxes[: count - count // 2].round()
        found.append(
            InstanceData(
                bboxes=boxes, labels=torch.zeros(count, dtype=torch.long)
            )
        )
    return found


def targets(head, instances, metas=None):
    metas = metas or [meta()] * len(instances)
    anchors, flags = head.get_anchors(MAPS, metas, device='cpu')
    return head.get_targets(anchors, flags, instances, metas)


def assert_same_targets(expected, found):
    assert expected[-1] == found[-1]  # the number of samples
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        assert len(ours) == len(theirs) == len(STRIDES)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b) and a.dtype == b.dtype


@pytest.fixture
def no_parent(monkeypatch):
    """mmdet's loops must not run."""

    def fail(*args, **kwargs):
        raise AssertionError('the loop over images runs')

    monkeypatch.setattr(RPNHead, '_get_targets_single', fail)
    monkeypatch.setattr(RPNHead, '_predict_by_feat_single', fail)


@pytest.mark.parametrize('counts', [(5, 0, 2, 9), (0, 0), (3,), (1, 1)])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(border=0),
        dict(assigner=dict(match_low_quality=False)),
        dict(sampler=dict(neg_pos_ub=40)),
    ],
    ids=str,
)
def test_targets_are_mmdets(options, counts):
    if 'sampler' in options:  # all that are bounded are drawn at random
        options = dict(sampler=dict(neg_pos_ub=NUM_ANCHORS))
    plain, batched = pair(**options)
    for seed in range(3):
        instances = truths(*counts, seed=seed)
        expected = targets(plain, instances)
        assert_same_targets(expected, targets(batched, instances))
