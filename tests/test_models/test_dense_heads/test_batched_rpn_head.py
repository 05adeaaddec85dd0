"""The batched RPN against mmdet's, which goes image by image."""

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from mmfgl.models.dense_heads import batched_nms
from mmfgl.models.task_modules import batched_sampling
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


@pytest.fixture
def no_loop(monkeypatch):
    """A function that forbids mmdet's loops from then on."""

    def fail(*args, **kwargs):
        raise AssertionError('the loop over images runs')

    def forbid():
        monkeypatch.setattr(RPNHead, '_get_targets_single', fail)
        monkeypatch.setattr(RPNHead, '_predict_by_feat_single', fail)

    return forbid


@pytest.mark.parametrize('max_pairs', [2**22, 4000])  # at once, in parts
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(border=0),
        dict(assigner=dict(match_low_quality=False)),
        dict(assigner=dict(min_pos_iou=0.0)),
        dict(sampler=dict(neg_pos_ub=NUM_ANCHORS)),
    ],
    ids=str,
)
def test_targets_are_mmdets(no_loop, monkeypatch, options, max_pairs):
    """Where nothing has to be drawn at random."""
    limits = dict(cpu=max_pairs)
    monkeypatch.setattr(batched_sampling, 'MAX_PAIRS', limits)
    plain, batched = pair(**options)
    batches = [
        truths(*counts, seed=seed)
        for counts in [(5, 0, 2, 9), (0, 0), (3,), (1, 1)]
        for seed in range(2)
    ]
    expected = [targets(plain, batch) for batch in batches]
    assert any((weights > 0).any() for weights in expected[0][3])
    no_loop()
    for batch, ours in zip(batches, expected, strict=True):
        assert_same_targets(targets(batched, batch), ours)


@pytest.mark.parametrize(
    'sampler',
    [
        dict(num=40, pos_fraction=0.1),
        dict(num=24, pos_fraction=0.25, neg_pos_ub=2),
        dict(num=40, pos_fraction=0.5, neg_pos_ub=3),
    ],
    ids=str,
)
def test_counts_of_what_is_drawn(no_loop, sampler):
    assigner = dict(pos_iou_thr=0.3, neg_iou_thr=0.3)
    plain, batched = pair(assigner, sampler)
    everything = pair(assigner)[0]
    batch = truths(9, 0, 1)
    *expected, expected_num = targets(plain, batch)
    *pool, _ = targets(everything, batch)
    no_loop()
    *first, num = targets(batched, batch)
    *second, _ = targets(batched, batch)
    assert num == expected_num

    def counts(levels):
        labels, weights = (torch.cat(part, dim=1) for part in levels[:2])
        return [
            ((labels == label) & (weights > 0)).sum(dim=1).tolist()
            for label in (0, 1)
        ]

    assert counts(first) == counts(expected) != counts(pool)
    labels, weights, boxes, box_weights = (
        [torch.cat(part, dim=1) for part in levels]
        for levels in (zip(first, pool, strict=True))
    )
    assert torch.equal(*(b * box_weights[0] for b in boxes))
    assert ((weights[0] == 0) | (labels[0] == labels[1])).all()
    assert not torch.equal(torch.cat(first[1], 1), torch.cat(second[1], 1))


@pytest.mark.parametrize(
    'options',
    [
        dict(assigner=dict(gt_max_assign_all=False)),
        dict(assigner=dict(neg_iou_thr=(0.1, 0.3))),
        dict(sampler=dict(type='PseudoSampler')),
        dict(coder=dict(use_box_type=True)),
    ],
    ids=str,
)
def test_other_parts_go_the_parents_way(options):
    plain, batched = pair(**options)
    batch = truths(4, 2)
    assert_same_targets(targets(batched, batch), targets(plain, batch))


def test_images_of_two_sizes_go_the_parents_way():
    plain, batched = pair(border=0)
    batch, infos = truths(4, 2), metas(1) + metas(1, (48, 100))
    infos[1]['pad_shape'] = (48, 112)
    ours, theirs = (targets(h, batch, infos) for h in (batched, plain))
    assert_same_targets(ours, theirs)
    ours, theirs = (
        head.predict_by_feat(*maps(2), batch_img_metas=infos)
        for head in (batched, plain)
    )
    assert_same_proposals(ours, theirs)


def test_no_anchor_inside_is_told():
    _, batched = pair(border=0)
    with pytest.raises(ValueError, match='no valid anchor inside'):
        targets(batched, truths(2, 0), metas(2, (2, 2)))


@pytest.mark.parametrize('images_a_call', [1, 3, 4])
@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(nms_pre=-1),
        dict(max_per_img=1000),
        dict(min_bbox_size=-1),
        dict(min_bbox_size=50),
        dict(min_bbox_size=500),  # none is left
    ],
    ids=str,
)
def test_proposals_are_mmdets(no_loop, monkeypatch, options, images_a_call):
    calls = dict(cpu=images_a_call)
    monkeypatch.setattr(batched_nms, 'IMAGES_A_CALL', calls)
    plain, batched = pair(**options)
    inputs = [maps(num, seed=num) for num in (1, 2, 5, 9)]
    for values in inputs:  # an image whose boxes have no area
        values[1][1][0] = -torch.inf
    expected = [
        plain.predict_by_feat(
            *values, batch_img_metas=metas(len(values[0][0]))
        )
        for values in inputs
    ]
    no_loop()
    for values, theirs in zip(inputs, expected, strict=True):
        infos = metas(len(values[0][0]))
        ours = batched.predict_by_feat(*values, batch_img_metas=infos)
        assert_same_proposals(ours, theirs)


def test_proposals_under_autocast(no_loop):
    """Of fp32 maps, as :class:`CPUAmpOptimWrapper` hands them on."""
    plain, batched = pair()
    with torch.autocast('cpu'):
        theirs = plain.predict_by_feat(*maps(5), batch_img_metas=metas(5))
        no_loop()
        ours = batched.predict_by_feat(*maps(5), batch_img_metas=metas(5))
    assert_same_proposals(ours, theirs)


def test_other_uses_go_the_parents_way():
    plain, batched = pair()
    soft = dict(plain.test_cfg, nms=dict(type='soft_nms', iou_threshold=0.5))
    split = dict(type='nms', iou_threshold=0.5, split_thr=50)
    split = dict(plain.test_cfg, nms=split)
    for options in (
        dict(rescale=True),
        dict(cfg=ConfigDict(soft)),
        dict(cfg=ConfigDict(split)),
    ):
        ours, theirs = (
            head.predict_by_feat(*maps(2), batch_img_metas=metas(2), **options)
            for head in (batched, plain)
        )
        assert_same_proposals(ours, theirs)


def test_same_weights_same_losses():
    plain, batched = pair()
    batched.load_state_dict(plain.state_dict())
    feats = [torch.randn(3, 8, *cells) for cells in CELLS]
    batch = truths(3, 0, 5)
    ours, theirs = (
        head.loss_by_feat(*head(feats), batch, metas(3))
        for head in (batched, plain)
    )
    for name in ('loss_rpn_cls', 'loss_rpn_bbox'):
        assert all(map(torch.equal, ours[name], theirs[name]))
