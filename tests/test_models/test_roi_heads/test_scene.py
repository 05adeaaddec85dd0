from types import SimpleNamespace

import pytest
import torch

from mmfgl.models.roi_heads import Scene


def sampling_result(pos_inds, neg_inds, num_gts):
    pos_inds = torch.tensor(pos_inds)
    return SimpleNamespace(
        pos_inds=pos_inds,
        neg_inds=torch.tensor(neg_inds),
        pos_is_gt=(pos_inds < num_gts).to(torch.uint8),
        num_gts=num_gts,
    )


def test_scores_follow_the_sampled_rois():
    scene = Scene((10, 20), torch.tensor([0.1, 0.2, 0.3]))
    # two true boxes stand before the three proposals
    sampled = sampling_result([1, 3], [4, 2], num_gts=2)
    sample = scene.sample(sampled, gt_added=True)
    assert sample.img_shape == (10, 20)
    torch.testing.assert_close(
        sample.scores, torch.tensor([1.0, 0.2, 0.3, 0.1])
    )
    assert sample.readable.tolist() == [False, True, True, True]


def test_nothing_is_added_before_the_proposals():
    scene = Scene((10, 20), torch.tensor([0.1, 0.2, 0.3]))
    sampled = sampling_result([1], [2, 0], num_gts=2)
    sampled.pos_is_gt = torch.zeros(1, dtype=torch.uint8)
    sample = scene.sample(sampled, gt_added=False)
    torch.testing.assert_close(sample.scores, torch.tensor([0.2, 0.3, 0.1]))
    assert sample.readable.all()


@pytest.mark.parametrize('num_gts', [0, 1])
def test_without_scores(num_gts):
    sampled = sampling_result([0], [1], num_gts=num_gts)
    sample = Scene((10, 20)).sample(sampled, gt_added=True)
    assert sample.scores is None
    assert sample.readable.tolist() == [num_gts == 0, True]
