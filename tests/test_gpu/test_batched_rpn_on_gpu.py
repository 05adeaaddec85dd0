"""The batched RPN is mmdet's on a GPU too, to the bit."""

import pytest
import torch

from mmfgl.utils.model import to_fp32
from tests.test_models.test_dense_heads.rpn_pair import (
    assert_same_proposals,
    assert_same_targets,
    maps,
    metas,
    pair,
    targets,
    truths,
)

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize('options', [{}, dict(border=0)], ids=str)
@pytest.mark.parametrize('counts', [(5, 0, 2, 9), (0, 0), (3,)])
def test_targets(device, options, counts):
    plain, batched = pair(**options)
    batch = truths(*counts, device=device)
    assert_same_targets(targets(batched, batch), targets(plain, batch))


@pytest.mark.parametrize('num', [1, 2, 5, 9])
@pytest.mark.parametrize(
    'options',
    [
        dict(nms_pre=-1),
        dict(max_per_img=1000),
        dict(min_bbox_size=50),
        dict(min_bbox_size=500),
    ],
    ids=str,
)
def test_proposals(device, options, num):
    ours, theirs = (
        head.predict_by_feat(
            *maps(num, seed=num, device=device), batch_img_metas=metas(num)
        )
        for head in reversed(pair(**options))
    )
    assert_same_proposals(ours, theirs)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
def test_proposals_under_autocast(device, dtype):
    """Boxes are computed in fp32, also of maps in half precision."""
    plain, batched = pair()
    inputs = maps(5, dtype=dtype, device=device)
    with torch.autocast(device.type):
        ours = batched.predict_by_feat(*inputs, batch_img_metas=metas(5))
    theirs = plain.predict_by_feat(*to_fp32(inputs), batch_img_metas=metas(5))
    assert ours[0].bboxes.dtype == torch.float32
    assert_same_proposals(ours, theirs)
