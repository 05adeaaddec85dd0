"""Proposals of all images at once are mmdet's."""

import pytest
import torch
from mmengine.config import ConfigDict

from mmfgl.models.dense_heads import batched_proposals
from mmfgl.testing import half_dtypes
from mmfgl.utils.model import to_fp32
from tests.test_models.test_dense_heads.rpn_pair import (
    assert_same_proposals,
    maps,
    metas,
    pair,
)


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
    monkeypatch.setattr(batched_proposals, 'IMAGES_A_CALL', calls)
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


@pytest.mark.parametrize('dtype', [torch.float32, *half_dtypes()])
def test_proposals_under_autocast(no_loop, dtype):
    """Boxes are computed in fp32."""
    plain, batched = pair()
    inputs = maps(5, dtype=dtype)
    theirs = plain.predict_by_feat(*to_fp32(inputs), batch_img_metas=metas(5))
    no_loop()
    with torch.autocast('cpu'):
        ours = batched.predict_by_feat(*inputs, batch_img_metas=metas(5))
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
