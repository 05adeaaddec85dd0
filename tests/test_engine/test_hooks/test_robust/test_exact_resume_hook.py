import copy

import pytest
import torch
from mmengine.hooks import Hook

from mmfgl.engine.hooks import ExactResumeHook

EXACT = dict(type='mmfgl.ExactResumeHook')


def state_of(runner):
    """Weights, buffers (those of a teacher too) and optimizer."""
    flat = dict(runner.model.state_dict())
    for index, state in runner.optim_wrapper.state_dict()['state'].items():
        for name, value in state.items():
            flat[f'optimizer.{index}.{name}'] = value
    return copy.deepcopy(flat)


def different(one, other):
    assert one.keys() == other.keys()
    return [key for key in one if not torch.equal(one[key], other[key])]


def stopped_and_not(make, at, iters=4, hooks=(EXACT,), **kwargs):
    """Final states of a straight run and of one resumed after ``at``."""
    straight = make(
        iters, hooks, dict(interval=at), work_dir='straight', **kwargs
    )
    straight.train()
    resumed = make(
        iters,
        hooks,
        work_dir='resumed',
        load_from=straight.work_dir + f'/iter_{at}.pth',
        resume=True,
        **kwargs,
    )
    resumed.train()
    assert resumed.iter == iters
    return state_of(straight), state_of(resumed)


@pytest.mark.parametrize('workers', [0, 2])
def test_pretraining_resumes_exactly(retod_runner, workers):
    one, other = stopped_and_not(retod_runner, 2, workers=workers)
    assert any(key.startswith('target_generator.') for key in one)
    assert not different(one, other)


@pytest.mark.parametrize('workers', [0, 2])
def test_detection_resumes_exactly(detector_runner, workers):
    states = stopped_and_not(detector_runner, 3, 5, workers=workers)
    assert not different(*states)


def test_number_of_workers_does_not_matter(retod_runner):
    states = []
    for workers in (0, 2):
        runner = retod_runner(
            3, [EXACT], workers=workers, work_dir=f'w{workers}'
        )
        runner.train()
        states.append(state_of(runner))
    assert not different(*states)


def test_the_hook_is_what_makes_it_exact(detector_runner):
    """Without it the augmentations of the resumed run differ."""
    assert different(*stopped_and_not(detector_runner, 2, hooks=()))


def test_seed_comes_from_the_checkpoint(detector_runner):
    """A config without seed draws one; a resumed run takes it over."""
    states = stopped_and_not(detector_runner, 2, randomness=dict(seed=None))
    assert not different(*states)


def test_disturbances_between_iterations_do_not_matter(detector_runner):
    class Noise(Hook):
        def after_train_iter(self, *args, **kwargs):
            torch.rand(3)

    states = []
    for name, hooks in (('calm', []), ('noisy', [Noise()])):
        runner = detector_runner(3, [EXACT, *hooks], work_dir=name)
        runner.train()
        states.append(state_of(runner))
    assert not different(*states)


def test_epochs_resume_at_their_start(detector_runner):
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
    assert not different(state_of(straight), state_of(resumed))


def test_loader_without_batches_is_an_error(detector_runner):
    runner = detector_runner(1)
    loop = dict(type='IterBasedTrainLoop', max_iters=1)
    runner._train_loop = runner.build_train_loop(loop)
    object.__setattr__(runner.train_dataloader, 'batch_sampler', None)
    with pytest.raises(ValueError, match='forms batches'):
        ExactResumeHook().before_train(runner)
