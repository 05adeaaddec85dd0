import copy
import itertools

import pytest
import torch

from mmfgl.models.balancers import (
    TaskAdaptiveLoss,
    TaskDraw,
    TaskLoss,
    TaskSampler,
    base,
)

NAMES = ('a', 'b', 'c')
COSTS = dict(a=1.0, b=2.0, c=5.0)


def losses_of(row):
    losses = map(TaskLoss, torch.as_tensor(row))
    return dict(zip(NAMES, losses, strict=True))


def feed(balancer, rows):
    for row in rows:
        balancer(losses_of(row))
    return balancer


def test_gate_turns_a_noisy_task_down():
    balancer = TaskAdaptiveLoss(NAMES, kappa=1.0)
    assert torch.equal(balancer.gates, torch.ones(3))
    rows = [
        (0.5, 0.5 + 0.3 * (-1) ** i, 0.5 + 0.05 * (-1) ** i) for i in range(60)
    ]
    gates = feed(balancer, rows).gates
    assert gates[0].item() == pytest.approx(1, abs=1e-4)
    assert 0.5 < gates[1] < gates[2] < gates[0]
    # the standard deviation over the mean is 0.6
    assert gates[1].item() == pytest.approx(1 / 1.6, abs=0.02)


def test_gate_is_clipped():
    rows = [(0.5, 1.0 if i % 20 else 30.0, 0.5) for i in range(100)]
    gates = feed(TaskAdaptiveLoss(NAMES, kappa=50.0), rows).gates
    assert gates[1] == 0.5
    gates = feed(TaskAdaptiveLoss(NAMES, kappa=0.0), rows).gates
    assert torch.equal(gates, torch.ones(3))


def test_diversity_floor_gives_the_full_weight_back():
    balancer = TaskAdaptiveLoss((*NAMES, 'diversity'), kappa=5.0)
    for step in range(30):
        losses = losses_of([0.01 * (1 + step % 2)] * 3)
        losses['diversity'] = TaskLoss(torch.tensor(0.2 * (step % 2)))
        out = balancer(losses)
        assert out['loss_diversity'] == losses['diversity'].value
        assert out['floor_diversity'] == step % 2
        assert all(out[f'weight_{name}'] < 1.9 for name in NAMES)


def sampled(**options):
    speed = dict(costs=COSTS, warmup=0, **options)
    return TaskAdaptiveLoss(NAMES, speed=speed)


def test_skipping_is_unbiased():
    balancer = sampled(speed=1.0, q_min=0.2)
    rows = [(0.9**i, 0.95**i, 0.5 + 0.1 * (-1) ** i) for i in range(20)]
    for row in rows:
        draw = balancer.draw()
        losses = losses_of(row)
        balancer({name: losses[name] for name in draw.scales}, draw)
    chances = dict(
        zip(
            NAMES,
            balancer.sampler.probabilities(balancer.shares).tolist(),
            strict=True,
        )
    )
    assert min(chances.values()) < 0.6 and max(chances.values()) == 1
    theta = torch.linspace(0.3, 0.9, 4)

    def gradient(ran, scales):
        """Gradient of one step from the same state."""
        one = copy.deepcopy(balancer)
        x = theta.clone().requires_grad_()
        losses = dict(
            a=x.square().mean(), b=(x - 1).abs().mean(), c=x.exp().mean()
        )
        out = one({k: TaskLoss(losses[k]) for k in ran}, TaskDraw(scales))
        sum(v for k, v in out.items() if 'loss' in k).backward()
        return x.grad

    expected = gradient(NAMES, dict.fromkeys(NAMES, 1.0))
    mean, total = torch.zeros(4), 0.0
    for flags in itertools.product((True, False), repeat=3):
        ran = [name for name, flag in zip(NAMES, flags) if flag]
        chance = 1.0
        for name, flag in zip(NAMES, flags, strict=True):
            chance *= chances[name] if flag else 1 - chances[name]
        if chance:
            scales = {name: 1 / chances[name] for name in ran}
            mean += chance * gradient(ran, scales)
            total += chance
    assert total == pytest.approx(1)
    torch.testing.assert_close(mean, expected)


def test_draws_follow_the_probabilities():
    sampler = TaskSampler(NAMES, costs=COSTS, warmup=0, speed=1.0, q_min=0.3)
    shares = torch.tensor([0.2, 0.1, 0.7])
    chances = sampler.probabilities(shares)
    # z over the share of the cost: 1.6, 0.4 and 1.12
    torch.testing.assert_close(chances, torch.tensor([1.0, 0.4, 1.0]))
    low = sampler.probabilities(torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(low, torch.tensor([0.3, 0.3, 1.0]))
    count = 0
    for _ in range(2000):
        drawn = sampler.draw(shares).scales
        assert {'a', 'c'} <= set(drawn)
        assert drawn['a'] == 1 and drawn.get('b', 2.5) == pytest.approx(2.5)
        count += 'b' in drawn
    assert count / 2000 == pytest.approx(0.4, abs=0.05)


def test_draws_depend_on_seed_and_step_alone():
    shares = torch.tensor([0.2, 0.1, 0.7])

    def draws(seed, burn=0):
        sampler = TaskSampler(NAMES, costs=COSTS, warmup=0, seed=seed)
        torch.rand(burn)
        return [tuple(sampler.draw(shares).scales) for _ in range(40)]

    assert draws(0) == draws(0, burn=7)
    assert draws(0) != draws(1)


def test_warmup_runs_everything():
    sampler = TaskSampler(NAMES, costs=COSTS, warmup=4, q_min=0.01)
    shares = torch.tensor([0.98, 0.01, 0.01])
    drawn = [sampler.draw(shares).scales for _ in range(40)]
    assert all(d == dict.fromkeys(NAMES, 1.0) for d in drawn[:4])
    assert any(len(d) < 3 for d in drawn[4:])


def test_measured_costs(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(base.time, 'perf_counter', lambda: clock[0])
    sampler = TaskSampler(NAMES, warmup=2, interval=5, momentum=0.5)
    shares = torch.full((3,), 1 / 3)

    def step(seconds):
        draw = sampler.draw(shares)
        with draw.measure('a', 'b'):
            clock[0] += seconds
        if 'c' in draw.scales:
            with draw.measure('c'):
                clock[0] += 3 * seconds
        sampler.learn(draw)

    step(1.0)
    torch.testing.assert_close(sampler.costs, torch.tensor([0.5, 0.5, 3]))
    step(3.0)
    torch.testing.assert_close(sampler.costs, torch.tensor([1.0, 1.0, 6]))
    step(3.0)  # measured once more right after the warm-up
    before = sampler.costs.clone()
    for _ in range(4):
        step(100.0)
    assert torch.equal(sampler.costs, before)
    step(100.0)
    assert sampler.costs[0] > before[0]


def test_fixed_costs_are_not_measured():
    sampler = TaskSampler(NAMES, costs=COSTS)
    draw = sampler.draw(torch.full((3,), 1 / 3))
    with draw.measure('a'):
        pass
    sampler.learn(draw)
    assert sampler.costs.tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(speed=0.5), 'speed >= 1'),
        (dict(q_min=0.0), '0 < q_min <= 1'),
        (dict(costs=dict(a=1.0)), r"costs for \['a'\]"),
        (dict(costs=dict(a=0.0, b=1.0, c=1.0)), 'must be positive'),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        TaskSampler(NAMES, **options)
