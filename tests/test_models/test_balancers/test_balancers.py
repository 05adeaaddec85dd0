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

NAMES = ('a', 'b', 'c')
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


def series(steps, seed=0, scale=(1.0, 1.0, 1.0)):
    """Falling, noisy losses of the three tasks."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(steps, 3, generator=generator) * 0.2 + 0.9
    rates = torch.tensor([0.9, 0.97, 1.0])
    for step in range(steps):
        values = rates**step * noise[step] * torch.tensor(scale)
        yield dict(zip(NAMES, values.unbind(), strict=True))


def drive(balancer, steps=20, **options):
    """Factors of each step, tasks drawn as in training."""
    results = []
    for losses in series(steps, **options):
        ran = balancer.draw()
        factors = balancer.factors({k: losses[k] for k in ran})
        results.append({k: float(v) for k, v in factors.items()})
    return results


@every
def test_equal_tasks_get_equal_weights(kind):
    balancer = ALL[kind]()
    for step in range(30):
        balancer.draw()
        loss = torch.tensor(0.98**step)
        balancer._scales = dict.fromkeys(NAMES, 1.0)
        factors = balancer.factors(dict.fromkeys(NAMES, loss))
        assert set(factors) == set(NAMES)
        values = [float(v) for v in factors.values()]
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
        assert drive(balancer) == fixed
    assert fixed[0] == dict(a=1.0, b=3.0 if weights else 1.0, c=1.0)


@every
def test_fixed_weights_multiply(kind):
    plain = drive(ALL[kind]())
    weighted = drive(ALL[kind](weights=dict(c=0.5)))
    for one, other in zip(plain, weighted, strict=True):
        assert set(one) == set(other)
        for name in one:
            scale = 0.5 if name == 'c' else 1.0
            assert other[name] == pytest.approx(scale * one[name])


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


def test_famo_gradient():
    balancer = FAMOBalancer(NAMES, eps=0.1)
    drive(balancer)
    balancer.eval()
    theta = torch.tensor([0.5, 0.8, 0.3], requires_grad=True)
    losses = dict(zip(NAMES, theta.square().unbind(), strict=True))
    sum(balancer(losses).values()).backward()
    got = theta.grad.clone()
    theta.grad = None
    logs = (theta.square() + 0.1).log()
    (balancer.shares * logs).sum().backward()
    # the same direction; C is about the harmonic mean
    ratio = got / theta.grad
    torch.testing.assert_close(ratio, ratio[:1].expand(3))
    assert ratio[0] > 0


def test_uncertainty_learns_by_gradient():
    balancer = UncertaintyBalancer(NAMES)
    optimizer = torch.optim.SGD(balancer.parameters(), lr=0.2)
    losses = dict(a=torch.tensor(2.0), b=torch.tensor(0.5), c=torch.tensor(1))
    for _ in range(200):
        terms = balancer(losses)
        assert set(terms) == {*NAMES, 'loss_balance'}
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    # exp(-s) l + s / 2 is least at s = log 2 l
    expected = torch.tensor([4.0, 1.0, 2.0]).log()
    torch.testing.assert_close(
        balancer.log_variances.detach(), expected, atol=1e-3, rtol=0
    )


def test_dwa_by_hand():
    balancer = DWABalancer(('a', 'b'), interval=2, temperature=2.0)
    values = [(4.0, 1.0), (2.0, 1.0), (2.0, 1.0), (1.0, 1.0), (9.0, 9.0)]
    for a, b in values:
        losses = dict(a=torch.tensor(a), b=torch.tensor(b))
        factors = balancer.factors(losses)
    # averages 3, 1.5 and 1, 1: ratios 0.5 and 1
    expected = 2 * torch.tensor([0.25, 0.5]).softmax(dim=0)
    got = torch.stack([factors['a'], factors['b']])
    torch.testing.assert_close(got, expected)


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
def test_hinged_tasks_keep_their_weight(kind):
    make = type(ALL[kind]())
    options = dict(weights=dict(diversity=2.0))
    balancer = make((*NAMES, 'diversity'), **options)
    alone = make(NAMES)
    for step, losses in enumerate(series(12)):
        balancer.draw()
        hinge = torch.tensor(0.3 if step % 3 else 0.0)
        factors = balancer.factors({**losses, 'diversity': hinge})
        assert float(factors.pop('diversity')) == 2.0
        expected = alone.factors(losses)
        assert {k: float(v) for k, v in factors.items()} == {
            k: float(v) for k, v in expected.items()
        }


@every
def test_logged(kind):
    balancer = ALL[kind]()
    drive(balancer)
    keys = set(balancer.statistics())
    if kind == 'fixed':
        assert not keys
        return
    assert keys >= {'weight_a'}
    if kind in ('famo', 'adaptive'):
        assert keys >= {f'excess_{name}' for name in NAMES}
    if kind == 'adaptive':
        assert keys >= {f'gate_{name}' for name in NAMES}
    assert all('loss' not in key for key in keys)
    assert all(not v.requires_grad for v in balancer.statistics().values())


def test_comparable_loss():
    term = torch.tensor(6.0, requires_grad=True)
    task = TaskLoss(dict(loss_x=term, loss_y=term * 0), floor=2.0, unit=8.0)
    assert task.value(comparable=False) == 6
    value = task.value(comparable=True)
    value.backward()
    assert value == 0.5 and term.grad == 0.125


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
        (dict(type='TaskAdaptiveLoss', tasks=['a'], least_gate=0), 'gate'),
    ],
)
def test_errors(cfg, message):
    cfg['type'] = 'mmfgl.' + cfg['type']
    with pytest.raises(ValueError, match=message):
        MODELS.build(cfg)
