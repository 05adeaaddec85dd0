import os
import signal
import traceback
from pathlib import Path

import pytest
import torch
from mmengine.hooks import EMAHook, Hook

from mmfgl.engine.hooks import ExactResumeHook, NonFiniteGuardHook
from mmfgl.engine.hooks.robust.preemption_hook import (
    REQUEUE,
    PreemptionHook,
    StopSignals,
    ValidationWatch,
)


class At(Hook):
    """Do something at a place in a run, counted from 0."""

    def __init__(self, place, number, action):
        self.place, self.number, self.action = place, number, action

    def __getattr__(self, name):
        raise AttributeError(name)

    def _act(self, place, runner):
        if place == self.place and runner.iter == self.number:
            self.action(runner)

    def before_train_iter(self, runner, *args, **kwargs):
        self._act('before', runner)

    def after_train_iter(self, runner, *args, **kwargs):
        self._act('after', runner)

    def after_val_iter(self, runner, batch_idx, *args, **kwargs):
        self._act(f'val{batch_idx}', runner)

    def after_train_epoch(self, runner):
        self._act('epoch', runner)

    def after_val_epoch(self, runner, *args, **kwargs):
        self._act('validated', runner)


def kick(number=signal.SIGTERM):
    return lambda runner: os.kill(os.getpid(), number)


def train(make, *hooks, **kwargs):
    """Run as tools/train.py does; return the Runner and the exit status."""
    with StopSignals() as signals:
        watch = ValidationWatch()
        guard = PreemptionHook(signals, watch)
        runner = make(ExactResumeHook(), *hooks, watch, guard, **kwargs)
        try:
            runner.train()
        except SystemExit as error:
            return runner, error.code
        except Exception:
            traceback.print_exc()
            guard.rescue(runner)
            return runner, 1
    return runner, 0


def latest(runner):
    text = Path(runner.work_dir, 'last_checkpoint').read_text()
    return Path(runner.work_dir, Path(text).name)


def saved(runner):
    return {path.name for path in Path(runner.work_dir).glob('*.pth')}


@pytest.mark.parametrize(
    ('place', 'number', 'name', 'signum'),
    [
        ('before', 1, 'iter_2.pth', 'SIGTERM'),
        *(('after', 4, 'iter_5.pth', name) for name in StopSignals.NAMES),
        ('after', 7, 'iter_8.pth', 'SIGTERM'),  # the last of an epoch
        ('after', 11, 'iter_12.pth', 'SIGTERM'),  # of the run
        ('val1', 8, 'epoch_2.pth', 'SIGTERM'),  # after an epoch, saved already
    ],
)
def test_stop_and_resume(toy, different, place, number, name, signum):
    before = signal.getsignal(signal.SIGINT)
    straight, code = train(toy, folder='straight')
    assert code == 0
    stop = At(place, number, kick(getattr(signal, signum)))
    stopped, code = train(toy, stop, folder='stopped')
    assert code == REQUEUE
    assert latest(stopped).name == name
    assert signal.getsignal(signal.SIGINT) is before
    path = str(latest(stopped))
    resumed, code = train(toy, folder='stopped', load_from=path, resume=True)
    assert code == 0
    assert resumed.iter == 12
    assert not different(straight, resumed)
    assert saved(resumed) == saved(straight)  # extra ones are gone
    # what a stop has prevented was made up for
    assert resumed.message_hub.get_info('mmfgl_validated_iter') == 12
    batches = [x for r in (stopped, resumed) for x in r.model.seen]
    validated = sum(x == [0.0, 1.0] for x in batches)
    assert validated >= 3


@pytest.mark.parametrize('number', [1, 3, 7])
def test_iterations(toy, different, number):
    straight, _ = train(toy, folder='straight', iters=8)
    stop = At('after', number, kick())
    stopped, code = train(toy, stop, iters=8)
    assert (code, latest(stopped).name) == (REQUEUE, f'iter_{number + 1}.pth')
    path = str(latest(stopped))
    resumed, code = train(toy, iters=8, load_from=path, resume=True)
    assert not different(straight, resumed)
    assert resumed.message_hub.get_info('mmfgl_validated_iter') == 8


def test_gradients_are_accumulated_first(toy):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.1), accumulative_counts=3)
    stop = At('after', 0, kick())
    runner, _ = train(toy, stop, optim_wrapper=wrapper)
    assert latest(runner).name == 'iter_3.pth'


def test_averaged_weights_change_places_again(toy):
    """EMAHook validates with weights exchanged; a stop saves them right."""
    stop = At('val0', 4, kick())
    stopped, code = train(toy, EMAHook(), stop, iters=8)
    assert code == REQUEUE
    straight, _ = train(toy, EMAHook(), folder='straight', iters=4)
    one, two = (
        torch.load(latest(r), weights_only=False) for r in (stopped, straight)
    )
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in one[part].items():
            assert torch.equal(value, two[part][key]), (part, key)


def test_an_error_after_validation_saves_the_weights_in_training(toy):
    broken = At('validated', 4, fail)
    broken.priority = 'LOW'  # EMAHook has exchanged the weights again
    broken, code = train(toy, EMAHook(), broken, iters=8)
    straight, _ = train(toy, EMAHook(), folder='straight', iters=4)
    assert (code, latest(broken).name) == (1, 'iter_4.pth')
    one, two = (
        torch.load(latest(r), weights_only=False) for r in (broken, straight)
    )
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in one[part].items():
            assert torch.equal(value, two[part][key]), (part, key)


def test_a_validation_that_is_done_is_not_done_again(toy):
    saving = dict(interval=100, save_best='count', rule='greater')
    runner, _ = train(toy, iters=4, checkpoint=saving)
    best = Path(runner.work_dir, 'best_count_iter_4.pth')
    state = torch.load(best, weights_only=False)
    hub = state['message_hub']['runtime_info']
    assert hub['mmfgl_validated_iter'] == 4


def test_a_stop_that_can_save_nothing_is_no_stop_to_go_on_from(toy, capsys):
    stop = At('after', 4, kick())
    plain = dict(type='CheckpointHook')
    runner, code = train(toy, stop, checkpoint=plain)
    assert code == 1 and 'iter_5.pth' not in saved(runner)
    text = ''.join(capsys.readouterr())
    assert 'nothing saved: the config has no Atomic' in text


def test_torchrun_sees_no_failure(toy, monkeypatch):
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    runner, code = train(toy, At('before', 2, kick()))
    assert (code, latest(runner).name) == (0, 'iter_3.pth')


def test_signal_before_training(toy):
    with StopSignals() as signals:
        kick()(None)
        with pytest.raises(SystemExit) as error:
            toy(PreemptionHook(signals, ValidationWatch())).train()
    assert error.value.code == REQUEUE


def test_a_terminal_that_is_gone_is_no_error(monkeypatch):
    """Ctrl-C ends the reader of a pipe, too."""

    def gone(*args):
        raise BrokenPipeError

    with StopSignals() as signals:
        monkeypatch.setattr(os, 'write', gone)
        kick(signal.SIGINT)(None)
        assert signals.number == signal.SIGINT


def test_second_interrupt_ends_at_once(monkeypatch):
    with StopSignals() as signals:
        kick(signal.SIGINT)(None)
        kick(signal.SIGINT)(None)  # torchrun passes on what a shell sent
        signals._since -= 3
        with pytest.raises(KeyboardInterrupt):
            kick(signal.SIGINT)(None)


def test_a_forked_worker_goes_on(capfd):
    with StopSignals() as signals:
        pid = os.fork()
        if pid == 0:
            for name in (*StopSignals.NAMES, 'SIGUSR1', 'SIGINT'):
                os.kill(os.getpid(), getattr(signal, name))
            os._exit(7 + signals.number)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        pid = os.fork()
        if pid == 0:
            kick()(None)
            kick()(None)
            os._exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == -signal.SIGTERM


def fail(runner):
    raise RuntimeError('on purpose')


@pytest.mark.parametrize(
    ('place', 'number', 'name', 'steps'),
    [
        ('before', 5, 'iter_5.pth', 5),
        ('after', 5, 'iter_6.pth', 6),
        ('after', 7, 'iter_8.pth', 8),  # the last of an epoch
        ('epoch', 8, 'iter_8.pth', 8),
    ],
)
def test_an_error_loses_nothing(toy, different, place, number, name, steps):
    broken, code = train(toy, At(place, number, fail), folder='broken')
    assert (code, latest(broken).name) == (1, name)
    straight, _ = train(toy, folder='straight')
    path = str(latest(broken))
    state = torch.load(path, weights_only=False)
    assert state['param_schedulers'][0]['_global_step'] == steps
    resumed, _ = train(toy, folder='broken', load_from=path, resume=True)
    assert resumed.iter == 12
    assert not different(straight, resumed)
    states = [
        [s.state_dict() for s in r.param_schedulers]
        for r in (straight, resumed)
    ]
    assert str(states[0]) == str(states[1])


def break_forward(runner):
    """The forward pass breaks when BatchNorm has seen the images."""
    runner.model.linear.register_forward_pre_hook(lambda *args: fail(runner))


def test_a_step_that_breaks_is_taken_back(toy, different):
    guard = NonFiniteGuardHook
    broken, code = train(
        toy, guard(), At('before', 5, break_forward), folder='broken'
    )
    assert (code, latest(broken).name) == (1, 'iter_5.pth')
    straight, _ = train(toy, guard(), folder='straight')
    path = str(latest(broken))
    more = dict(load_from=path, resume=True)
    resumed, _ = train(toy, guard(), folder='broken', **more)
    assert not different(straight, resumed)


def test_errors_that_leave_nothing_to_save(toy):
    runner, code = train(toy, At('before', 0, fail))
    assert code == 1 and not saved(runner)

    def spoil(runner):
        runner.model.linear.weight.data.fill_(float('nan'))
        fail(runner)

    runner, code = train(toy, At('after', 5, spoil))
    assert code == 1 and saved(runner) == {'epoch_1.pth'}


def test_saves_by_the_clock(toy):
    runner, _ = train(toy, iters=6, checkpoint=dict(interval=4))
    assert saved(runner) == {'iter_4.pth', 'iter_6.pth'}
    often = dict(interval=4, interval_minutes=1e-9)
    seen = []

    class Look(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, *args, **kwargs):
            seen.append(saved(runner))

    train(toy, Look(), iters=6, checkpoint=often, folder='often')
    assert seen[:3] == [{'iter_1.pth'}, {'iter_2.pth'}, {'iter_3.pth'}]
    assert seen[3:] == [
        {'iter_4.pth'},
        {'iter_4.pth', 'iter_5.pth'},
        {'iter_4.pth', 'iter_6.pth'},
    ]
    with pytest.raises(ValueError, match='must be > 0'):
        toy(checkpoint=dict(interval_minutes=0))


def test_guard_and_stop_together(toy):
    hooks = NonFiniteGuardHook(max_skips=1), At('before', 5, spoil_loss)
    runner, code = train(toy, *hooks)
    assert code == 1
    assert latest(runner).name == 'iter_6.pth'


def spoil_loss(runner):
    def spoil(module, args, losses):
        return {name: value * float('nan') for name, value in losses.items()}

    runner.model.register_forward_hook(spoil)
