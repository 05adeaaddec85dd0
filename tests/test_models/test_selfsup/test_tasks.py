"""Tasks of ReToD: what each compares, skipping and balancing."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper

from mmfgl.models.balancers import TaskDraw
from mmfgl.models.selfsup import MaskedRegionTask, TaskContext
from mmfgl.testing import randomise_weights, region_batch

ALL = ('objectness', 'distill', 'mask', 'diversity')
BALANCERS = {
    'fixed': dict(type='mmfgl.FixedBalancer'),
    'uncertainty': dict(type='mmfgl.UncertaintyBalancer'),
    'dwa': dict(type='mmfgl.DWABalancer', interval=2),
    'famo': dict(type='mmfgl.FAMOBalancer'),
    'adaptive': dict(
        type='mmfgl.TaskAdaptiveLoss',
        speed=dict(
            costs=dict(distill=2.0, mask=2.0, objectness=12.0),
            warmup=1,
            speed=1.0,
        ),
    ),
}


def context_of(model, seed=0, **options):
    """The context of a step, of a batch of two images."""
    options.setdefault('num_objects', 3)
    batch = model.data_preprocessor(region_batch(**options), True)
    views = torch.cat(batch['inputs'])
    torch.manual_seed(seed)
    return TaskContext(model, views, batch['data_samples'])


def test_distill_reads_the_other_view(retod):
    model = retod.build('distill', 'mask').eval()
    randomise_weights(model.target_generator)
    context = context_of(model)
    first, second = context.targets.chunk(2)
    assert not torch.allclose(first, second, atol=0.01)
    log_probs = F.log_softmax(context.logits / 0.1, dim=-1)
    masked = context.masking.masked
    assert masked.any(dim=1).all() and (~masked).any(dim=1).all()
    for name, targets, chosen in (
        ('distill', torch.cat([second, first]), ~masked),
        ('mask', torch.cat([first, second]), masked),
    ):
        loss = model.tasks[name].loss(context)
        expected = -(targets * log_probs).sum(dim=-1)[chosen].mean()
        torch.testing.assert_close(loss.value, expected)
        entropy = -torch.xlogy(targets, targets).sum(dim=-1)[chosen].mean()
        torch.testing.assert_close(loss.floor, entropy)
        assert loss.loss_scale == pytest.approx(math.log(12))
        kl = loss.logs[f'kl_{name}']
        torch.testing.assert_close(
            kl, (loss.value.detach() - entropy) / math.log(12)
        )
        assert {'teacher_entropy', 'teacher_diversity'} <= set(loss.logs)


def test_without_masks_every_token_counts(retod):
    context = context_of(retod.build('distill'))
    assert context.masking is None and context.unmasked.all()


def test_one_view(retod):
    model = retod.build('mask')
    assert retod.losses_of(model, num_views=1)['loss_mask'] > 0
    with pytest.raises(ValueError, match='num_views=2'):
        retod.losses_of(retod.build('distill'), num_views=1)


def test_diversity_alone_needs_no_teacher_pass(retod, monkeypatch):
    model = retod.build('diversity')

    def fail(*args):
        raise AssertionError('the teacher was asked')

    monkeypatch.setattr(model.target_generator.backbone, 'forward', fail)
    losses = retod.losses_of(model)
    assert losses['loss_diversity'] > 0
    retod.check_gradients(model, losses)


@pytest.mark.parametrize('num_regions', [2, 3, 16, 40])
@pytest.mark.parametrize('ratio', [(0.1, 0.5), (0.01, 0.02), (0.98, 0.99)])
def test_share_of_masked_tokens(num_regions, ratio):
    task = MaskedRegionTask(embed_dims=4, mask_ratio=ratio)
    low = max(1, round(ratio[0] * num_regions - 0.5))
    high = min(num_regions - 1, math.ceil(ratio[1] * num_regions))
    counts = set()
    for _ in range(40):
        masked = task.draw(3, num_regions).masked
        assert masked.shape == (3, num_regions) and masked.dtype == torch.bool
        counts.update(masked.sum(dim=1).tolist())
        assert low <= min(counts) and max(counts) <= max(low, high)
    assert len(counts) > 1 or num_regions < 4 or ratio != (0.1, 0.5)


def test_masks_differ_between_views():
    masked = MaskedRegionTask(embed_dims=4).draw(8, 16).masked
    assert len({tuple(row) for row in masked.tolist()}) > 1


def test_bad_masks():
    with pytest.raises(ValueError, match='at least 2 regions'):
        MaskedRegionTask(embed_dims=4).draw(2, 1)
    for ratio in ((0, 0.5), (0.5, 0.1), (0.5, 1.0)):
        with pytest.raises(ValueError, match='0 < least <= largest < 1'):
            MaskedRegionTask(mask_ratio=ratio)


@pytest.mark.parametrize('kind', BALANCERS)
def test_balanced_training(retod, kind):
    model = retod.build(*ALL, balancer=BALANCERS[kind])
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(params, lr=1e-3))
    wrapper.zero_grad = lambda: None
    ran = set()
    # two intervals of DWA, and draws that differ
    for step in range(6 if kind in ('dwa', 'adaptive') else 2):
        for param in params:
            param.grad = None
        log = model.train_step(region_batch(num_objects=3, seed=step), wrapper)
        assert all(value.isfinite().all() for value in log.values())
        # distributed training needs the gradients of all parameters
        assert all(param.grad is not None for param in params)
        ran.add(frozenset(retod.names_of(log) & set(ALL)))
        assert 'loss_diversity' in log
    if kind == 'adaptive':
        assert len(ran) > 1
        assert {'gate_distill', 'skip_mask', 'floor_diversity'} <= set(log)
    else:
        assert ran == {frozenset(ALL)}
    if kind == 'uncertainty':
        assert model.balancer.log_variances.grad.any()
        assert 'loss_balance' in log


def only(model, monkeypatch, *names):
    monkeypatch.setattr(
        model.balancer, 'draw', lambda: TaskDraw(dict.fromkeys(names, 1.0))
    )


@pytest.mark.parametrize('targets', ['sinkhorn', 'centring'])
def test_skipping_changes_no_other_loss(retod, monkeypatch, targets):
    """So 1/q is unbiased: masks, views and targets are those of all tasks.

    That balancers scale by 1/q, test_task_adaptive_loss.py shows.
    """
    options = dict(targets=targets)
    whole = retod.losses_of(retod.build('distill', 'mask', **options))
    for name in ('distill', 'mask'):
        model = retod.build('distill', 'mask', **options)
        only(model, monkeypatch, name)
        losses = retod.losses_of(model)
        assert retod.names_of(losses) == {name}
        assert torch.equal(losses[f'loss_{name}'], whole[f'loss_{name}'])
        retod.check_gradients(model, losses)


def test_a_skipped_task_costs_nothing(retod, monkeypatch):
    model = retod.build(*ALL)
    only(model, monkeypatch, 'objectness')

    def fail(*args):
        raise AssertionError('computed for nothing')

    monkeypatch.setattr(model.target_generator.backbone, 'forward', fail)
    monkeypatch.setattr(model.head.projector, 'forward', fail)
    losses = retod.losses_of(model)
    assert retod.names_of(losses) == {'objectness'}
    retod.check_gradients(model, losses)
    assert not model.head.projector.prototypes.weight.grad.any()


def test_balancer_is_in_the_checkpoint(retod):
    cfg = BALANCERS['adaptive']
    model = retod.build(*ALL[:3], balancer=cfg)
    for seed in range(3):
        retod.losses_of(model, seed=seed)
    other = retod.build(*ALL[:3], balancer=cfg)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    for seed in range(3):
        one = retod.losses_of(model, seed=seed)
        two = retod.losses_of(other, seed=seed)
        assert set(one) == set(two)
        assert all(torch.equal(one[key], two[key]) for key in one)
