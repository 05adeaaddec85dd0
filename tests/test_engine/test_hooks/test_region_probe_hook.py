import copy
from pathlib import Path

import pytest
import torch

from mmfgl.engine.hooks import RegionProbeHook
from mmfgl.engine.hooks.region_probe_hook import region_top1
from mmfgl.registry import MODELS
from mmfgl.testing import randomise_weights, region_batch, tiny_retod_cfg
from mmfgl.utils.randomness import seed_all


def probe_cfg(runner_cfg, **changes):
    loader = copy.deepcopy(runner_cfg.train_dataloader)
    loader.sampler = dict(type='DefaultSampler', shuffle=False)
    return dict(type='mmfgl.RegionProbeHook', dataloader=loader, **changes)


def same_views(**kwargs):
    """A batch whose second views are the first ones."""
    batch = region_batch(**kwargs)
    batch['inputs'][1] = batch['inputs'][0].clone()
    for sample in batch['data_samples']:
        sample.boxes[1] = sample.boxes[0]
    return batch


@pytest.fixture
def model():
    return randomise_weights(MODELS.build(tiny_retod_cfg()), std=0.1)


@pytest.mark.parametrize('branch', ['teacher', 'student'])
def test_same_views_are_all_found(model, branch):
    model.train()
    model.backbone.conv1.eval()
    model.target_generator.start(model)
    before = copy.deepcopy(model.state_dict())
    batches = [same_views(seed=0), same_views(seed=1)]
    score, regions = region_top1(model, batches, branch)
    assert score > 0.9 and regions == 24
    # views that have nothing to do with each other
    assert region_top1(model, [region_batch()], branch)[0] < 0.5
    # the model is left as it was
    assert model.training and not model.backbone.conv1.training
    assert not model.target_generator.backbone.training
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_branches_are_told_apart(model):
    batches = [region_batch(num_images=4, num_regions=8)]
    model.target_generator.start(model)
    with torch.no_grad():
        for param in model.roi_head.parameters():
            param.mul_(0)  # all regions alike: the first one is found
    alike = region_top1(model, batches, 'student')
    assert alike == (1 / 32, 32)
    batches = [same_views(num_images=4, num_regions=8)]
    assert region_top1(model, batches, 'student') == (1 / 32, 32)
    assert region_top1(model, batches, 'teacher')[0] > 0.9


def test_training_goes_on_as_without(retod_runner, tmp_path):
    plain = retod_runner(3, work_dir='plain')
    probed = retod_runner(3, work_dir='probed')
    cfg = probe_cfg(probed.cfg, interval=2, max_images=3)
    probed.register_hook(cfg)
    for runner in (plain, probed):
        seed_all(1)
        runner.train()
    one, other = (r.model.state_dict() for r in (plain, probed))
    for key in one:
        if key != 'target_generator.started':
            assert torch.equal(one[key], other[key]), key
    logged = probed.message_hub.get_scalar('train/probe/region_top1')
    assert len(logged.data[0]) == 3  # before, at 2, at the end
    log = next(Path(probed.log_dir).glob('vis_data/scalars.json')).read_text()
    assert log.count('probe/region_top1') >= 3


def test_probe_sees_the_same_views_each_time(retod_runner):
    loads = []
    for seed in range(2):
        runner = retod_runner(1, work_dir=f'{seed}')
        loader = probe_cfg(runner.cfg)['dataloader']
        seed_all(seed)
        loads.append(RegionProbeHook(loader)._load(runner))
    for one, other in zip(*loads, strict=True):
        assert torch.equal(one['inputs'][1], other['inputs'][1])
    assert len(RegionProbeHook(loader, max_images=1)._load(runner)) == 1


def test_any_number_of_ranks_sees_the_same_images(retod_runner, monkeypatch):
    runner = retod_runner(1, work_dir='ranks')
    hook = RegionProbeHook(probe_cfg(runner.cfg)['dataloader'])
    alone = hook._load(runner)
    info = 'mmengine.dataset.sampler.get_dist_info'
    monkeypatch.setattr(info, lambda: (0, 2))
    for one, other in zip(alone, hook._load(runner), strict=True):
        assert torch.equal(one['inputs'][0], other['inputs'][0])


def test_bad_settings():
    with pytest.raises(ValueError, match="'teacher' or 'student'"):
        RegionProbeHook({}, branch='both')
    with pytest.raises(ValueError, match='at least 1'):
        RegionProbeHook({}, interval=0)
