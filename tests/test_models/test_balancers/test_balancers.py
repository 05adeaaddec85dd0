import copy
import math

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


def factors_of(balancer, losses, draw=None):
    """What each loss is multiplied with, and all that was returned."""
    out = balancer({k: TaskLoss(v) for k, v in losses.items()}, draw)
    factors = {k: float(out[f'loss_{k}'] / v) for k, v in losses.items()}
    return factors, out


def drive(balancer, steps=20, **options):
    """Factors of each step, tasks drawn as in training."""
    results = []
    for losses in series(steps, **options):
        draw = balancer.draw()
        ran = {k: losses[k] for k in draw.scales}
        results.append(factors_of(balancer, ran, draw)[0])
    return results


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
    losses = map(TaskLoss, theta.square().unbind())
    out = balancer(dict(zip(NAMES, losses, strict=True)))
    sum(v for k, v in out.items() if 'loss' in k).backward()
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
    values = dict(a=2.0, b=0.5, c=1.0)
    losses = {k: TaskLoss(torch.tensor(v)) for k, v in values.items()}
    for _ in range(200):
        terms = {k: v for k, v in balancer(losses).items() if 'loss' in k}
        assert set(terms) == {*(f'loss_{n}' for n in NAMES), 'loss_balance'}
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
        factors, _ = factors_of(balancer, losses)
    # averages 3, 1.5 and 1, 1: ratios 0.5 and 1
    expected = 2 * torch.tensor([0.25, 0.5]).softmax(dim=0)
    got = torch.tensor([factors['a'], factors['b']])
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


def test_famo_against_its_equations():
    """Arithmetic of arXiv 2306.03792, written down task by task.

    Losses are compared with those of the next batch: see FAMOBalancer.
    """
    beta, gamma, eps = 0.1, 0.01, 1e-3
    balancer = FAMOBalancer(NAMES, beta=beta, gamma=gamma, eps=eps)
    xi, last = [0.0] * 3, None
    for losses in series(12):
        factors, _ = factors_of(balancer, losses)
        values = [float(losses[name]) for name in NAMES]
        z = torch.tensor(xi).softmax(0).tolist()
        before = last or values
        c = 3 / sum(w / (v + eps) for w, v in zip(z, before))
        expected = [c * w / (v + eps) for w, v in zip(z, values)]
        assert list(factors.values()) == pytest.approx(expected, rel=1e-4)
        if last is not None:
            delta = [
                math.log(old + eps) - math.log(new + eps)
                for old, new in zip(last, values)
            ]
            mean = sum(w * d for w, d in zip(z, delta))
            # Jacobian of the softmax: z_k (delta_k - sum_j z_j delta_j)
            grad = [w * (d - mean) for w, d in zip(z, delta)]
            xi = [x - beta * (g + gamma * x) for x, g in zip(xi, grad)]
        last = values


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
