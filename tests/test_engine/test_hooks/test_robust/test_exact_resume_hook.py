import itertools

import numpy as np
import pytest
import torch
from mmdet.datasets.samplers import GroupMultiSourceSampler, MultiSourceSampler
from mmengine.hooks import Hook
from torch.utils.data import ConcatDataset, DataLoader

from mmfgl.engine.hooks import ExactResumeHook
from mmfgl.engine.hooks.robust.exact_resume_hook import _rewind

EXACT = dict(type='mmfgl.ExactResumeHook')


def stopped_and_not(make, at, iters=4, hooks=(EXACT,), workers=0, **kwargs):
    """A straight run and one that is resumed after ``at``."""
    straight = make(
        *(iters, hooks, dict(interval=at), workers, 'straight'), **kwargs
    )
    straight.train()
    path = straight.work_dir + f'/iter_{at}.pth'
    kwargs |= dict(workers=workers, load_from=path, resume=True)
    resumed = make(iters, hooks, work_dir='resumed', **kwargs)
    resumed.train()
    assert resumed.iter == iters
    return straight, resumed


# detection takes whole batches of mmdet's AspectRatioBatchSampler
@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('kind', ['retod_runner', 'detector_runner'])
def test_resumes_exactly(request, different, kind, workers):
    make = request.getfixturevalue(kind)
    assert not different(*stopped_and_not(make, 3, 5, workers=workers))


def test_the_hook_is_what_makes_it_exact(detector_runner, different):
    """Without it the augmentations of the resumed run differ."""
    assert different(*stopped_and_not(detector_runner, 2, hooks=()))


def test_seed_comes_from_the_checkpoint(detector_runner, different):
    """A config without seed draws one; a resumed run takes it over."""
    runners = stopped_and_not(detector_runner, 2, randomness=dict(seed=None))
    assert not different(*runners)


class Noise(Hook):
    def after_train_iter(self, *args, **kwargs):
        torch.rand(3)


def test_neither_workers_nor_disturbances_matter(retod_runner, different):
    calm = retod_runner(3, [EXACT], work_dir='calm')
    calm.train()
    noisy = retod_runner(3, [EXACT, Noise()], workers=2, work_dir='noisy')
    noisy.train()
    assert not different(calm, noisy)


def test_epochs_resume_at_their_start(detector_runner, different):
    loader = detector_runner(work_dir='unused').cfg.train_dataloader
    loader.sampler = dict(type='DefaultSampler', shuffle=True)
    hook = dict(type='mmfgl.AtomicCheckpointHook', by_epoch=True, interval=1)
    settings = dict(
        hooks=[EXACT],
        train_cfg=dict(
            type='EpochBasedTrainLoop', max_epochs=3, val_interval=99
        ),
        param_scheduler=None,
        train_dataloader=loader,
        default_hooks=dict(checkpoint=hook),
    )
    straight = detector_runner(work_dir='straight', **settings)
    straight.train()
    path = straight.work_dir + '/epoch_1.pth'
    resumed = detector_runner(
        work_dir='resumed', load_from=path, resume=True, **settings
    )
    resumed.train()
    assert resumed.iter == straight.iter == 6
    assert not different(straight, resumed)


class Images(list):
    def get_data_info(self, index):
        return dict(width=self[index], height=2)


@pytest.mark.parametrize('kind', [MultiSourceSampler, GroupMultiSourceSampler])
def test_samplers_of_several_sources_start_anew(kind):
    """Those of semi-supervised training, read from before the hook comes."""
    dataset = ConcatDataset([Images([1, 3, 3]), Images([1, 3, 1, 3, 3])])
    sampler = kind(dataset, batch_size=3, source_ratio=[1, 2], seed=5)
    other = kind(dataset, batch_size=3, source_ratio=[1, 2], seed=7)
    loader = DataLoader(dataset, batch_size=3, sampler=sampler)
    drawn = []
    for part in (other, sampler):
        np.random.seed(0)  # of the groups
        if part is sampler:
            list(itertools.islice(sampler, 4))
            _rewind(loader, 7)
            np.random.seed(0)
        drawn.append(list(itertools.islice(part, 12)))
    assert drawn[0] == drawn[1]


def test_loader_without_batches_is_an_error(detector_runner):
    runner = detector_runner(1)
    loop = dict(type='IterBasedTrainLoop', max_iters=1)
    runner._train_loop = runner.build_train_loop(loop)
    object.__setattr__(runner.train_dataloader, 'batch_sampler', None)
    with pytest.raises(ValueError, match='forms batches'):
        ExactResumeHook().before_train(runner)
