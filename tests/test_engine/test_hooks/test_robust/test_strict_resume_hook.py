import logging
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from mmfgl.engine.hooks import ExactResumeHook
from mmfgl.engine.hooks.robust.strict_resume_hook import StrictResumeHook


@pytest.fixture
def first(toy):
    """Checkpoint of an epoch of four iterations, of three."""
    loop = dict(type='EpochBasedTrainLoop', max_epochs=1)
    runner = toy(StrictResumeHook(), folder='first', train_cfg=loop)
    runner.train()
    return Path(runner.work_dir, 'epoch_1.pth')


def resumed(toy, path, **changes):
    changes |= dict(load_from=str(path), resume=True)
    runner = toy(ExactResumeHook(), StrictResumeHook(), **changes)
    runner.train()
    return runner


def changed(path, change):
    content = torch.load(path, weights_only=False)
    change(content)
    torch.save(content, path)


def drop(content):
    del content['state_dict']['linear.weight']
    content['state_dict']['other.weight'] = torch.zeros(1)


def prefix(content):
    state = content['state_dict']
    content['state_dict'] = {f'x.y.{k}': v for k, v in state.items()}


def reshape(content):
    content['state_dict']['linear.weight'] = torch.zeros(2, 2)


def regroup(content):
    groups = content['optimizer']['param_groups']
    groups[0]['params'], last = groups[0]['params'][:-1], groups[0]['params']
    groups.append(dict(groups[0], params=last[-1:]))


def swap(content):
    state = content['optimizer']['state']
    state[2], state[3] = state[3], state[2]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (drop, ('missing keys', 'linear.weight', 'other.weight')),
        (prefix, ('linear.weight', "keys begin with 'x.y.'")),
        (reshape, ('linear.weight', 'size')),
        (regroup, ('4 parameters in 2 groups', '4 parameters in 1 groups')),
        (swap, ('exp_avg', 'linear', '(2, 1)')),
        (lambda c: c.pop('optimizer'), ('has no optimizer', 'load_from')),
        (lambda c: c.pop('message_hub'), ('has no message_hub',)),
        (lambda c: c.pop('param_schedulers'), ('no param_schedulers',)),
    ],
)
def test_what_does_not_fit_is_an_error(toy, first, change, words):
    changed(first, change)
    with pytest.raises(RuntimeError) as error:
        resumed(toy, first)
    text = str(error.value)
    assert '\n' not in text and str(first) in text
    assert not [word for word in words if word not in text], text


def test_another_optimizer_is_an_error(toy, first):
    sgd = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    with pytest.raises(RuntimeError, match='knows no momentum'):
        resumed(toy, first, optim_wrapper=sgd)


def test_load_from_is_no_resume(toy, first):
    """Starting from weights alone stays possible."""
    changed(first, lambda content: content.pop('optimizer'))
    runner = toy(StrictResumeHook(), load_from=str(first))
    runner.train()
    assert runner.iter == 12


LONGER = [
    dict(type='CosineAnnealingLR', by_epoch=False, T_max=24),
    dict(type='MultiStepLR', milestones=[2], by_epoch=True),
]


@pytest.mark.parametrize(
    'changes',
    [
        dict(param_scheduler=LONGER),
        dict(param_scheduler=LONGER[:1]),
        dict(param_scheduler=[]),
        dict(optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.3))),
        dict(
            optim_wrapper=dict(
                optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.3)
            )
        ),
    ],
    ids=['longer', 'fewer', 'none', 'rate', 'decay'],
)
def test_the_config_wins(toy, first, changes, caplog):
    """The rates are those of a run that had the new config from the start."""
    straight = toy(folder='straight', **changes)
    straight.train()
    with caplog.at_level(logging.WARNING, 'mmengine'):
        runner = resumed(toy, first, **changes)
    for one, two in zip(
        straight.optim_wrapper.param_groups,
        runner.optim_wrapper.param_groups,
        strict=True,
    ):
        for key in ('lr', 'weight_decay'):
            assert one[key] == pytest.approx(two[key], rel=1e-12)
    if 'param_scheduler' in changes:
        states = [
            [s.state_dict() for s in r.param_schedulers]
            for r in (straight, runner)
        ]
        assert str(states[0]) == str(states[1])


PLATEAU = dict(type='ReduceOnPlateauLR', monitor='count', by_epoch=True)
WARMUP = dict(type='LinearLR', start_factor=0.1, end=2, by_epoch=True)


@pytest.mark.parametrize('more', [[], [WARMUP]], ids=['alone', 'warmup'])
def test_a_rate_that_follows_a_metric(toy, more, capsys):
    """Its past cannot be replayed: what it began with is the config's."""
    schedule = [*more, PLATEAU]
    before = toy(folder='before', param_scheduler=schedule)
    before.train()
    path = before.work_dir + '/epoch_1.pth'
    rate = torch.load(path, weights_only=False)['optimizer']
    rate = rate['param_groups'][0]['lr']
    wrapper = dict(optimizer=dict(type='AdamW', lr=0.02))
    changes = dict(param_scheduler=schedule, optim_wrapper=wrapper)
    found = []

    class Watch(Hook):
        def before_train_iter(self, runner, *args, **kwargs):
            found.append(runner.optim_wrapper.param_groups[0]['lr'])

    again = dict(load_from=path, resume=True)
    toy(Watch(), StrictResumeHook(), **again, **changes).train()
    assert found[0] == pytest.approx(rate * 0.02 / 0.1)
    seen = ''.join(capsys.readouterr())
    assert 'lr began with 0.1, now 0.02' in seen


def test_nothing_changes_nothing(toy, first, different, capsys):
    straight = toy(ExactResumeHook(), folder='straight')
    straight.train()
    path = straight.work_dir + '/epoch_1.pth'
    assert not different(straight, resumed(toy, path))
    seen = ''.join(capsys.readouterr())
    assert 'config wins' not in seen and 'other data' not in seen


@pytest.mark.parametrize('size', [3, 4])
def test_epochs_of_another_length(toy, first, size, capsys):
    """The schedule is where a run of this batch size would be."""
    images = torch.arange(8.0).split(1)
    sampler = dict(type='DefaultSampler', shuffle=True)
    loader = dict(batch_size=size, dataset=images, sampler=sampler)
    cosine = dict(type='CosineAnnealingLR', T_max=3, end=3)
    changes = dict(
        train_dataloader=loader,
        param_scheduler=dict(cosine, convert_to_iter_based=True),
    )
    straight = toy(folder='straight', **changes)
    straight.train()
    runner = resumed(toy, first, **changes)
    assert runner.iter == straight.iter == {3: 9, 4: 6}[size]
    rates = [r.optim_wrapper.param_groups[0]['lr'] for r in (straight, runner)]
    assert rates[1] == pytest.approx(rates[0], abs=1e-9)
    text = ' '.join(''.join(capsys.readouterr()).split())
    assert 'nothing is left' not in text and 'batch size' in text


def test_a_checkpoint_within_an_epoch_that_does_not_say_so(toy, capsys):
    saving = dict(by_epoch=False, interval=3)
    straight = toy(StrictResumeHook(), folder='first', checkpoint=saving)
    straight.train()
    resumed(toy, straight.work_dir + '/iter_6.pth', checkpoint=saving)
    text = ' '.join(''.join(capsys.readouterr()).split())
    assert 'resumed within epoch 2, of which' in text and 'ExactResume' in text


def test_a_run_that_is_over(toy, capsys):
    straight = toy(StrictResumeHook(), folder='first')
    straight.train()
    resumed(toy, straight.work_dir + '/epoch_3.pth')
    text = ' '.join(''.join(capsys.readouterr()).split())
    assert 'has done 3 of 3 epochs' in text


def test_other_data_is_a_warning(toy, first, capsys):
    images = torch.arange(9.0).split(1)
    sampler = dict(type='DefaultSampler', shuffle=True)
    loader = dict(batch_size=3, dataset=images, sampler=sampler)
    resumed(toy, first, train_dataloader=loader)
    text = ''.join(capsys.readouterr())
    for words in ('batch size of a process was 2, is 3', 'images was 8, is 9'):
        assert words in ' '.join(text.split()), text
