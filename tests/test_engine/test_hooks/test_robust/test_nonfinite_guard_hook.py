import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MMDistributedDataParallel

from mmfgl.engine.hooks import NonFiniteError, NonFiniteGuardHook
from mmfgl.engine.hooks.robust.nonfinite_guard_hook import image_files
from mmfgl.testing import detection_batch
from tests.test_engine.test_hooks.test_robust.poisoned import (
    NAN,
    Line,
    Poison,
    line_runner,
)


@pytest.fixture
def guarded(state_of, detector_runner):
    """Build a guarded Runner that is poisoned, and the poison."""

    def build(
        bad, iters=4, where='loss', make=detector_runner, skips=5, **changes
    ):
        guard = dict(type='mmfgl.NonFiniteGuardHook', max_skips=skips)
        runner = make(iters, [guard], **changes)
        poison = Poison(state_of, bad, where)
        # before the guard's own hook on the model
        runner._hooks.insert(0, poison)
        return runner, poison

    return build


@pytest.mark.parametrize('where', ['loss', 'gradient'])
@pytest.mark.parametrize('kind', ['retod_runner', 'detector_runner'])
def test_skipped_step_moves_nothing(request, guarded, different, kind, where):
    make = request.getfixturevalue(kind)
    runner, poison = guarded({1}, where=where, make=make)
    runner.train()
    states = poison.states
    moved = [bool(different(*pair)) for pair in itertools.pairwise(states)]
    assert moved == [True, False, True, True]
    assert all(torch.isfinite(v).all() for v in states[-1].values())
    assert any('running_mean' in key for key in states[0])


def test_averages_of_the_weights_do_not_move_either(guarded):
    steps = []

    class Look(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, *args, **kwargs):
            averages = [h for h in runner.hooks if isinstance(h, EMAHook)]
            steps.append(int(averages[0].ema_model.steps))

    guard = dict(type='mmfgl.NonFiniteGuardHook')
    runner, _ = guarded({1}, custom_hooks=[guard, dict(type='EMAHook')])
    runner.register_hook(Look())
    runner.train()
    assert steps == [1, 1, 2, 3]


def test_messages_name_loss_gradient_and_images(guarded):
    runner, _ = guarded({1}, skips=1)
    with pytest.raises(NonFiniteError) as caught:
        runner.train()
    message = str(caught.value)
    assert 'loss_rpn_cls = nan' in message
    assert 'iteration 2' in message
    assert message.count('train/') == 2  # both images
    assert 'lower the learning rate' in message
    for value in runner.model.state_dict().values():
        assert torch.isfinite(value).all()
    runner, _ = guarded({0}, where='gradient', skips=1, work_dir='b')
    with pytest.raises(NonFiniteError, match=r'gradient of \w+\.'):
        runner.train()


def test_too_many_in_a_row(guarded):
    runner, _ = guarded({0, 2, 3, 5}, 6, skips=3)
    runner.train()
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 4
    runner, _ = guarded({1, 2, 3}, 6, skips=3, work_dir='b')
    with pytest.raises(NonFiniteError, match='3 steps in a row'):
        runner.train()
    assert runner.iter == 3


@pytest.mark.parametrize('bad', [{2}, {3}])
def test_accumulation_drops_the_whole_step(guarded, different, bad):
    sgd = dict(type='SGD', lr=0.01)
    wrapper = dict(optimizer=sgd, accumulative_counts=2)
    runner, poison = guarded(bad, 6, optim_wrapper=wrapper)
    runner.train()
    first, second, third, last = poison.states[::2]
    assert not different(second, third)
    assert 'backbone.conv1.weight' in different(first, second)
    assert 'backbone.conv1.weight' in different(third, last)


def test_bf16_on_a_cpu(guarded, different):
    adam = dict(type='AdamW', lr=1e-3)
    wrapper = dict(type='mmfgl.CPUAmpOptimWrapper', optimizer=adam)
    runner, poison = guarded(
        {1}, 3, where='gradient', optim_wrapper=wrapper, skips=2
    )
    runner.train()
    moved = [bool(different(*p)) for p in itertools.pairwise(poison.states)]
    assert moved == [True, False, True]
    assert runner.param_schedulers[0].last_step == 2


def test_healthy_run_is_the_same_with_and_without(detector_runner, different):
    exact = dict(type='mmfgl.ExactResumeHook')
    guard = dict(type='mmfgl.NonFiniteGuardHook')
    plain = detector_runner(3, [exact])
    plain.train()
    watched = detector_runner(3, [exact, guard], work_dir='b')
    watched.train()
    assert not different(plain, watched)
    assert 'update_params' not in vars(watched.optim_wrapper)


def test_bad_settings():
    with pytest.raises(ValueError, match='at least 1'):
        NonFiniteGuardHook(max_skips=0)
    runner = type('R', (), dict(optim_wrapper=object()))()
    with pytest.raises(TypeError, match='one optimizer'):
        NonFiniteGuardHook().before_train(runner)


def test_image_files():
    samples = detection_batch()['data_samples']
    assert list(image_files(samples)) == []
    for index, sample in enumerate(samples):
        sample.set_metainfo(dict(img_path=f'{index}.jpg'))
    nested = dict(labelled=samples[:1], other=[samples[1:]])
    assert list(image_files(nested)) == ['0.jpg', '1.jpg']
    assert list(image_files(None)) == []


def _work(rank, folder):
    store = f'file://{folder}/store'
    dist.init_process_group('gloo', store, rank=rank, world_size=2)
    torch.manual_seed(0)
    model = MMDistributedDataParallel(Line(), broadcast_buffers=False)
    dataset = [dict(inputs=torch.randn(2)) for _ in range(8)]
    dataset[3]['inputs'] *= NAN  # the second batch of rank 1 alone
    runner = line_runner(folder, dataset, iters=3, model=model)
    runner.train()
    torch.save(model.module.state_dict(), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


def test_ranks_agree(tmp_path, different):
    mp.start_processes(_work, (tmp_path,), nprocs=2, start_method='fork')
    states = [torch.load(tmp_path / f'rank{rank}.pt') for rank in range(2)]
    assert not different(*states)
    assert states[0]['calls'] == 2  # that of the skipped step was undone
    assert torch.isfinite(states[0]['linear.weight']).all()
