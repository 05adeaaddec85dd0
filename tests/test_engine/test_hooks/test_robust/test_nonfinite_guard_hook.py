import itertools

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.hooks import Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import nn

from mmfgl.engine.hooks import NonFiniteError, NonFiniteGuardHook
from mmfgl.engine.hooks.robust.nonfinite_guard_hook import image_files
from mmfgl.testing import detection_batch

NAN = float('nan')
INF = float('inf')
COUNTER = itertools.count()


class Poison(Hook):
    """Spoils a loss, or the gradient, of chosen iterations."""

    def __init__(self, state_of, iters, where):
        self.state_of, self.iters, self.where = state_of, iters, where
        self.states = []

    def before_train(self, runner):
        def spoil(module, args, losses):
            if runner.iter in self.iters:
                name = next(n for n in losses if 'loss' in n)
                value = losses[name]
                first, *rest = value if isinstance(value, list) else [value]
                if self.where == 'loss':
                    first = first * NAN
                else:  # a finite loss whose gradient is not
                    by = INF if self.where == 'overflow' else NAN
                    first.register_hook(lambda grad: grad * by)
                losses[name] = [first * 1.0, *rest]
            return losses

        runner.model.register_forward_hook(spoil)

    def before_train_iter(self, runner, *args, **kwargs):
        self.states.append(self.state_of(runner))

    after_train = before_train_iter


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


class Scaler:
    """What a gradient scaler does; PyTorch 2.1 has none for CPUs."""

    def __init__(self, init_scale):
        self.value, self.overflow = init_scale, False

    def scale(self, loss):
        return loss * self.value

    def step(self, optimizer):
        grads = [p.grad for g in optimizer.param_groups for p in g['params']]
        self.overflow = not all(grad.isfinite().all() for grad in grads)
        if not self.overflow:
            for grad in grads:
                grad /= self.value
            optimizer.step()

    def update(self):
        self.value /= 1 + self.overflow

    def get_scale(self):
        return self.value


class ScaledWrapper(OptimWrapper):
    """``AmpOptimWrapper`` without its demand for a GPU."""

    def __init__(self, init_scale, **kwargs):
        super().__init__(**kwargs)
        if hasattr(torch.amp, 'GradScaler'):
            scaler = torch.amp.GradScaler('cpu', init_scale=init_scale)
        else:
            scaler = Scaler(init_scale)
        self.loss_scaler = scaler

    def backward(self, loss, **kwargs):
        self.loss_scaler.scale(loss).backward()
        self._inner_count += 1

    def step(self, **kwargs):
        self.loss_scaler.step(self.optimizer)
        self.loss_scaler.update()


@pytest.fixture
def scaled(tmp_path, state_of):
    """Build a guarded Runner with a gradient scaler, and its poison."""

    def build(bad, iters, skips, init_scale=1024.0, where='gradient'):
        dataset = [dict(inputs=torch.randn(2)) for _ in range(4)]
        for index, item in enumerate(dataset):
            sample = BaseDataElement(metainfo=dict(img_path=f'{index}.jpg'))
            item['data_samples'] = sample
        runner = Runner(
            model=Line(),
            work_dir=str(tmp_path),
            train_dataloader=dict(
                batch_size=1,
                dataset=dataset,
                sampler=dict(type='InfiniteSampler', shuffle=False),
                collate_fn=dict(type='default_collate'),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters),
            optim_wrapper=dict(
                type=ScaledWrapper,
                init_scale=init_scale,
                optimizer=dict(type='SGD', lr=0.1),
            ),
            param_scheduler=dict(
                type='LinearLR', start_factor=0.1, by_epoch=False, end=10
            ),
            custom_hooks=[
                dict(type='mmfgl.NonFiniteGuardHook', max_skips=skips)
            ],
            default_hooks=dict(checkpoint=None),
            log_level='ERROR',
            experiment_name=f'scaled_{next(COUNTER)}',
        )
        poison = Poison(state_of, bad, where)
        runner._hooks.insert(0, poison)
        return runner, poison

    return build


def test_skips_of_a_scaler_are_counted(scaled, different):
    runner, poison = scaled({2}, iters=4, skips=2)
    runner.train()
    moved = [bool(different(*p)) for p in itertools.pairwise(poison.states)]
    assert moved == [True, True, False, True]
    assert poison.states[-1]['calls'] == 3  # that of the bad step is undone
    assert runner.message_hub.get_scalar('train/skipped_steps').current() == 1
    assert runner.optim_wrapper.loss_scaler.get_scale() == 512
    # the learning rate has waited too
    assert runner.param_schedulers[0].last_step == 3


def test_scaler_that_cannot_help_stops(scaled):
    runner, _ = scaled({1, 2, 3}, iters=6, skips=3)
    with pytest.raises(NonFiniteError, match='3 steps in a row') as caught:
        runner.train()
    message = str(caught.value)
    assert runner.iter == 3
    assert 'gradient of linear.weight, linear.bias' in message
    assert 'loss_line = ' in message and '3.jpg' in message


def test_scaler_may_search_before_the_first_step(scaled):
    where = dict(where='overflow')
    runner, _ = scaled(range(3), iters=4, skips=1, init_scale=8.0, **where)
    runner.train()  # at 8, 4 and 2 it overflows
    assert runner.optim_wrapper.loss_scaler.get_scale() == 1
    runner, _ = scaled(range(9), iters=9, skips=1, init_scale=8.0, **where)
    with pytest.raises(NonFiniteError, match='4 steps in a row'):
        runner.train()
    # NaN has nothing to do with the scale
    for where in ('loss', 'gradient'):
        runner, _ = scaled(range(9), iters=9, skips=2, where=where)
        with pytest.raises(NonFiniteError, match='2 steps in a row'):
            runner.train()


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


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        self.register_buffer('calls', torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        self.calls += 1
        return dict(loss_line=self.linear(inputs).square().mean())


def _work(rank, folder):
    store = f'file://{folder}/store'
    dist.init_process_group('gloo', store, rank=rank, world_size=2)
    torch.manual_seed(0)
    model = MMDistributedDataParallel(Line(), broadcast_buffers=False)
    dataset = [dict(inputs=torch.randn(2)) for _ in range(8)]
    dataset[3]['inputs'] *= NAN  # the second batch of rank 1 alone
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=1,
            dataset=dataset,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='mmfgl.NonFiniteGuardHook')],
        default_hooks=dict(checkpoint=None),
        log_level='ERROR',
        experiment_name=f'guard_{rank}',
    )
    runner.train()
    torch.save(model.module.state_dict(), f'{folder}/rank{rank}.pt')
    dist.destroy_process_group()


def test_ranks_agree(tmp_path, different):
    mp.start_processes(_work, (tmp_path,), nprocs=2, start_method='fork')
    states = [torch.load(tmp_path / f'rank{rank}.pt') for rank in range(2)]
    assert not different(*states)
    assert states[0]['calls'] == 2  # that of the skipped step was undone
    assert torch.isfinite(states[0]['linear.weight']).all()
