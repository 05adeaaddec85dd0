"""What all balancers have in common."""

import copy

import pytest
import torch

from mmfgl.models.balancers import (
    DWABalancer,
    FAMOBalancer,
    FixedBalancer,
    TaskAdaptiveLoss,
    TaskLoss,
    UncertaintyBalancer,
)
from mmfgl.registry import MODELS
from tests.test_models.test_balancers.falling_losses import (
    NAMES,
    drive,
    factors_of,
    series,
)

SAMPLER = dict(costs=dict(a=1.0, b=2.0, c=5.0), warmup=3, speed=1.2)
ALL = {
    'fixed': lambda **k: FixedBalancer(NAMES, **k),
    'uncertainty': lambda **k: UncertaintyBalancer(NAMES, **k),
    'dwa': lambda **k: DWABalancer(NAMES, interval=2, **k),
    'famo': lambda **k: FAMOBalancer(NAMES, **k),
    'adaptive': lambda **k: TaskAdaptiveLoss(NAMES, **k),
    'adaptive-speed': lambda **k: TaskAdaptiveLoss(NAMES, speed=SAMPLER, **k),
}
every = pytest.mark.parametrize('kind', ALL)


@every
def test_equal_tasks_get_equal_weights(kind):
    balancer = ALL[kind]()
    for step in range(30):
        loss = torch.tensor(0.98**step)
        factors, _ = factors_of(balancer, dict.fromkeys(NAMES, loss))
        assert set(factors) == set(NAMES)
        values = list(factors.values())
        assert values == pytest.approx([values[0]] * 3, rel=1e-5)
        # the gate turns all of them down alike
        assert 0.5 < values[0] < 1.1


@pytest.mark.parametrize('kind', ['dwa', 'famo', 'adaptive'])
def test_rescaling_one_loss_changes_nothing(kind):
    options = {} if kind == 'dwa' else dict(eps=1e-8)
    plain, scaled = ALL[kind](**options), ALL[kind](**options)
    one, other = drive(plain), drive(scaled, scale=(1.0, 100.0, 1.0))
    for left, right, losses in zip(one, other, series(20), strict=True):
        if kind == 'dwa':
            assert left == pytest.approx(right, rel=1e-4)
            continue
        # what each task contributes to the gradient, up to a common scale
        left = torch.tensor([left[k] * losses[k] for k in NAMES])
        factor = dict(a=1.0, b=100.0, c=1.0)
        right = torch.tensor([right[k] * losses[k] * factor[k] for k in NAMES])
        torch.testing.assert_close(left / left.sum(), right / right.sum())
    if kind != 'dwa':
        torch.testing.assert_close(plain.xi, scaled.xi)
        assert plain.xi.abs().max() > 1e-3


@pytest.mark.parametrize('weights', [None, dict(b=3.0)])
def test_beta_zero_is_fixed(weights):
    fixed = drive(FixedBalancer(NAMES, weights=weights))
    for balancer in (
        FAMOBalancer(NAMES, beta=0.0, weights=weights),
        TaskAdaptiveLoss(NAMES, beta=0.0, kappa=0.0, weights=weights),
    ):
        for one, other in zip(drive(balancer), fixed, strict=True):
            assert one == pytest.approx(other)
    expected = dict(a=1.0, b=3.0 if weights else 1.0, c=1.0)
    assert fixed[0] == pytest.approx(expected)


@every
def test_fixed_weights_multiply(kind):
    plain = drive(ALL[kind]())
    weighted = drive(ALL[kind](weights=dict(c=0.5)))
    for one, other in zip(plain, weighted, strict=True):
        assert set(one) == set(other)
        for name in one:
            scale = 0.5 if name == 'c' else 1.0
            assert other[name] == pytest.approx(scale * one[name])


def test_learnt_variances_leave_fixed_weights_alone():
    balancer = UncertaintyBalancer(['a', 'b'], weights=dict(a=10.0))
    optimizer = torch.optim.Adam(balancer.parameters(), 0.05)
    losses = {name: TaskLoss(torch.tensor(4.0)) for name in 'ab'}
    for _ in range(300):
        out = balancer(losses)
        optimizer.zero_grad()
        sum(v for k, v in out.items() if k.startswith('loss')).backward()
        optimizer.step()
    # where the sum is least: fixed weight / (2 loss)
    assert out['weight_a'].item() == pytest.approx(10 / 8, rel=0.01)
    assert out['weight_b'].item() == pytest.approx(1 / 8, rel=0.01)


def test_the_slowest_task_gains_weight():
    for kind in ('famo', 'adaptive', 'dwa'):
        balancer = ALL[kind]()
        drive(balancer, steps=40)
        if kind == 'dwa':
            last = drive(balancer, steps=10)[-1]
            assert last['a'] < last['c']
        else:
            shares = balancer.shares
            assert shares[0] < shares[1] < shares[2]
            assert shares.sum().item() == pytest.approx(1)


@every
def test_resumes_exactly(kind):
    def steps(balancer, seed):
        return drive(balancer, steps=15, seed=seed)

    one = ALL[kind]()
    steps(one, seed=1)
    state = copy.deepcopy(one.state_dict())
    other = ALL[kind]()
    other.load_state_dict(state)
    assert steps(one, seed=2) == steps(other, seed=2)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    if kind not in ('fixed', 'uncertainty'):
        assert any(
            not torch.equal(value, state[key])
            for key, value in one.state_dict().items()
        )


@every
def test_evaluation_learns_nothing(kind):
    balancer = ALL[kind]()
    drive(balancer)
    before = copy.deepcopy(balancer.state_dict())
    balancer.eval()
    results = drive(balancer, steps=8)
    assert all(set(factors) == set(NAMES) for factors in results)
    for key, value in balancer.state_dict().items():
        assert torch.equal(value, before[key]), key


@every
def test_unbalanced_tasks_keep_their_weight(kind):
    make = type(ALL[kind]())
    balancer = make((*NAMES, 'diversity'), weights=dict(diversity=2.0))
    alone = make(NAMES)
    for step, losses in enumerate(series(12)):
        hinge = torch.tensor(0.3 if step % 3 else 1e-3)
        factors, _ = factors_of(balancer, {**losses, 'diversity': hinge})
        assert factors.pop('diversity') == pytest.approx(2)
        assert factors == pytest.approx(factors_of(alone, losses)[0])


@every
def test_logged(kind):
    balancer = ALL[kind]()
    losses = {
        name: TaskLoss(torch.tensor(0.5), logs={f'kl_{name}': torch.ones(())})
        for name in NAMES
    }
    out = balancer(losses)
    logs = {key for key in out if 'loss' not in key}
    assert logs >= {f'kl_{name}' for name in NAMES}
    if kind == 'fixed':
        assert logs == {f'kl_{name}' for name in NAMES}
        return
    assert logs >= {'weight_a'}
    if kind in ('famo', 'adaptive'):
        assert logs >= {f'excess_{name}' for name in NAMES}
    if kind == 'adaptive':
        assert logs >= {f'gate_{name}' for name in NAMES}
    assert not any(out[key].requires_grad for key in logs)


@pytest.mark.parametrize('kind', ['fixed', 'famo'])
def test_floor_and_scale(kind):
    """Balancers of excess losses divide the gradient by the scale."""
    value = torch.tensor(6.0, requires_grad=True)
    loss = TaskLoss(value, floor=2.0, loss_scale=8.0)
    assert loss.excess == 0.5
    balancer = dict(fixed=FixedBalancer, famo=FAMOBalancer)[kind](['a'])
    out = balancer(dict(a=loss))
    out['loss_a'].backward()
    scale = 1 / 8 if kind == 'famo' else 1
    assert value.grad.item() == pytest.approx(scale)
    if kind == 'famo':
        assert out['excess_a'] == 0.5


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='FixedBalancer', tasks=['a', 'a']), 'must differ'),
        (
            dict(type='FixedBalancer', tasks=['a'], weights=dict(x=1.0)),
            r"weights for \['x'\]",
        ),
        (dict(type='DWABalancer', tasks=['a'], interval=0), 'interval >= 1'),
        (dict(type='FAMOBalancer', tasks=['a'], beta=-1.0), 'beta >= 0'),
        (dict(type='TaskAdaptiveLoss', tasks=['a'], kappa=-1), 'kappa >= 0'),
    ],
)
def test_errors(cfg, message):
    cfg['type'] = 'mmfgl.' + cfg['type']
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)
