import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mmfgl.engine.hooks import ChannelsLastHook
from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, tiny_retod_cfg


def channels_last(images):
    return images.is_contiguous(memory_format=torch.channels_last)


def test_both_branches_and_the_same_results():
    torch.manual_seed(0)
    model = MODELS.build(tiny_retod_cfg()).eval()
    hooked = copy.deepcopy(model)
    ChannelsLastHook().before_run(SimpleNamespace(model=hooked))
    seen = []
    for branch in (hooked, hooked.target_generator):
        branch.backbone.conv1.register_forward_pre_hook(
            lambda _, args: seen.append(channels_last(args[0]))
        )
    losses = []
    for each in (model, hooked):
        batch = each.data_preprocessor(region_batch(), True)
        torch.manual_seed(0)
        losses.append(each(**batch, mode='loss'))
    assert seen == [True, True]
    assert not channels_last(batch['inputs'][0])
    # for RoI operators that know no other layout
    for level in hooked.extract_feat(batch['inputs']):
        assert level.is_contiguous()
    for key, value in losses[0].items():
        torch.testing.assert_close(losses[1][key], value)


def test_model_without_backbone():
    runner = SimpleNamespace(model=nn.Linear(2, 2))
    with pytest.raises(ValueError, match='no module named "backbone"'):
        ChannelsLastHook().before_run(runner)
