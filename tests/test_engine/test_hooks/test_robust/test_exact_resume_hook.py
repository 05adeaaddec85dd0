import copy

import pytest
import torch
from mmengine.hooks import Hook

EXACT = dict(type='mmfgl.ExactResumeHook')


def state_of(runner):
    """Weights, buffers (teacher and centre among them) and optimizer."""
    flat = dict(runner.model.state_dict())
    for index, state in runner.optim_wrapper.state_dict()['state'].items():
        for name, value in state.items():
            flat[f'optimizer.{index}.{name}'] = value
    return copy.deepcopy(flat)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def stopped_and_not(make, at, iters=5, **kwargs):
    """Final states of a straight run and of one resumed after ``at``."""
    straight = make(
        iters, [EXACT], dict(interval=at), work_dir='straight', **kwargs
    )
    straight.train()
    path = straight.work_dir + f'/iter_{at}.pth'
    resumed = make(
        iters,
        [EXACT],
        work_dir='resumed',
        load_from=path,
        resume=True,
        **kwargs,
    )
    resumed.train()
    assert resumed.iter == iters
    return state_of(straight), state_of(resumed)


@pytest.mark.parametrize('workers', [0, 2])
def test_pretraining_resumes_exactly(retod_runner, workers):
    one, other = stopped_and_not(retod_runner, 2, workers=workers)
    assert any('teacher.' in key for key in one)
    assert_same(one, other)


@pytest.mark.parametrize('workers', [0, 2])
def test_detection_resumes_exactly(detector_runner, workers):
    one, other = stopped_and_not(detector_runner, 3, workers=workers)
    assert_same(one, other)


def test_number_of_workers_does_not_matter(retod_runner):
    states = []
    for workers in (0, 2):
        runner = retod_runner(
            3, [EXACT], workers=workers, work_dir=f'w{workers}'
        )
        runner.train()
        states.append(state_of(runner))
    assert_same(*states)


def test_the_hook_is_what_makes_it_exact(retod_runner):
    """Without it the augmentations of the resumed run differ."""
    straight = retod_runner(3, checkpoint=dict(interval=2))
    straight.train()
    resumed = retod_runner(
        3,
        work_dir='resumed',
        load_from=straight.work_dir + '/iter_2.pth',
        resume=True,
    )
    resumed.train()
    with pytest.raises(AssertionError):
        assert_same(state_of(straight), state_of(resumed))


def test_seed_comes_from_the_checkpoint(retod_runner):
    """A config without seed draws one; a resumed run takes it over."""
    one, other = stopped_and_not(
        retod_runner, 2, iters=4, randomness=dict(seed=None)
    )
    assert_same(one, other)


def test_disturbances_between_iterations_do_not_matter(retod_runner):
    class Noise(Hook):
        def after_train_iter(self, *args, **kwargs):
            torch.rand(3)

    states = []
    for name, hooks in (('calm', []), ('noisy', [Noise()])):
        runner = retod_runner(2, [EXACT, *hooks], work_dir=name)
        runner.train()
        states.append(state_of(runner))
    assert_same(*states)


def test_epochs_resume_at_their_start(retod_runner, data):
    def make(**changes):
        return retod_runner(
            hooks=[EXACT],
            train_cfg=dict(
                type='EpochBasedTrainLoop', max_epochs=3, val_interval=99
            ),
            param_scheduler=None,
            **changes,
        )

    def loader(cfg):
        return dict(cfg, sampler=dict(type='DefaultSampler', shuffle=True))

    runner = retod_runner(work_dir='unused')
    train_dataloader = loader(runner.cfg.train_dataloader)
    by_epoch = dict(
        checkpoint=dict(
            type='mmfgl.AtomicCheckpointHook', by_epoch=True, interval=1
        )
    )
    straight = make(
        work_dir='straight',
        train_dataloader=train_dataloader,
        default_hooks=by_epoch,
    )
    straight.train()
    resumed = make(
        work_dir='resumed',
        train_dataloader=train_dataloader,
        default_hooks=by_epoch,
        load_from=straight.work_dir + '/epoch_1.pth',
        resume=True,
    )
    resumed.train()
    assert resumed.iter == straight.iter == 6
    assert_same(state_of(straight), state_of(resumed))


def test_loader_without_batches_is_an_error(retod_runner):
    runner = retod_runner(1, [EXACT])
    loader = runner.train_dataloader
    runner._train_loop = runner.build_train_loop(
        dict(type='IterBasedTrainLoop', max_iters=1)
    )
    object.__setattr__(runner.train_dataloader, 'batch_sampler', None)
    hook = next(h for h in runner._hooks if 'ExactResume' in str(type(h)))
    with pytest.raises(ValueError, match='forms batches'):
        hook.before_train(runner)
    assert loader is not None
