"""mmdet's RPN and the batched one, and what goes in and comes out."""

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.registry import MODELS

# Levels of 512, 128 and 32 anchors: vector instructions of a CPU fit in.
SIZE = (64, 128)
STRIDES = (8, 16, 32)
CELLS = [(SIZE[0] // s, SIZE[1] // s) for s in STRIDES]
NUM_ANCHORS = 4 * sum(height * width for height, width in CELLS)


def build(kind, assigner, sampler, border, coder, test_cfg):
    nms = dict(type='nms', iou_threshold=0.6)
    rules = dict(pos_iou_thr=0.6, neg_iou_thr=0.3, min_pos_iou=0.2)
    numbers = dict(
        type='RandomSampler',
        num=4000,
        pos_fraction=0.5,
        add_gt_as_proposals=False,
    )
    cfg = dict(
        type=kind,
        in_channels=8,
        feat_channels=8,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[2, 4],
            ratios=[0.5, 1.0],
            strides=list(STRIDES),
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', **coder),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', **{**rules, **assigner}),
            sampler={'type': 'RandomSampler', **numbers, **sampler},
            allowed_border=border,
            pos_weight=-1,
        ),
        test_cfg={
            **dict(nms_pre=64, max_per_img=40, min_bbox_size=0, nms=nms),
            **test_cfg,
        },
        _scope_='mmdet',
    )
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(ConfigDict(cfg))


def pair(assigner=(), sampler=(), border=-1, coder=(), **test_cfg):
    """mmdet's head and the batched one."""
    parts = dict(assigner), dict(sampler), border, dict(coder), test_cfg
    return build('RPNHead', *parts), build('mmfgl.BatchedRPNHead', *parts)


def metas(num, img_shape=SIZE):
    one = dict(img_shape=img_shape, pad_shape=SIZE, scale_factor=(0.5, 0.5))
    return [one] * num


def truths(*counts, seed=0, device='cpu'):
    """True boxes of images, some of them twice: ties."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        centres = torch.rand(count, 2, generator=draw)
        centres = centres * torch.tensor([SIZE[1], SIZE[0]])
        sides = 8 + 40 * torch.rand(count, 2, generator=draw)
        boxes = torch.cat([centres - sides / 2, centres + sides / 2], 1)
        boxes[count // 2 :] = boxes[: count - count // 2].clone()
        labels = torch.zeros(count, dtype=torch.long)
        found.append(InstanceData(bboxes=boxes, labels=labels).to(device))
    return found


def targets(head, instances, infos=None):
    infos = infos or metas(len(instances))
    device = instances[0].bboxes.device
    anchors, flags = head.get_anchors(CELLS, infos, device=device)
    return head.get_targets(anchors, flags, instances, infos)


def assert_same_targets(found, expected):
    assert found[-1] == expected[-1]  # the number of samples
    for ours, theirs in zip(found[:-1], expected[:-1], strict=True):
        assert len(ours) == len(theirs) == len(STRIDES)
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)


def maps(num, seed=0, dtype=torch.float32, device='cpu'):
    """Scores, no two equal in an image, and deltas of the levels."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.rand(num, NUM_ANCHORS, generator=draw).argsort(dim=1)
    scores = torch.linspace(0.01, 0.99, NUM_ANCHORS)[order].logit()
    scores = scores.split([4 * h * w for h, w in CELLS], dim=1)
    scores = [s.view(num, 4, *c) for s, c in zip(scores, CELLS, strict=True)]
    deltas = [torch.randn(num, 16, *c, generator=draw) for c in CELLS]
    return (
        [level.to(device, dtype) for level in scores],
        [level.to(device, dtype) * 0.7 for level in deltas],
    )


def assert_same_proposals(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.labels.dtype == torch.long
        assert len(ours.labels) == len(ours)
        for name in ('bboxes', 'scores'):
            assert ours[name].dtype == theirs[name].dtype
            assert torch.equal(ours[name], theirs[name])
