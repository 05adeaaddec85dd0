"""Tasks of ReToD: each can be off, skipped and balanced."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

from mmfgl.models.selfsup.task_losses import task_of
from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, tiny_objectness_cfg, tiny_retod_cfg

DIVERSITY = dict(type='mmfgl.RegionDiversityLoss', floor=1.0)
OFF = dict(
    distill=dict(loss_distill=None),
    mask=dict(loss_mask=None),
    coord=dict(loss_coord=None, loss_giou=None),
)
COSTS = dict(coord=1.0, distill=2.0, mask=2.0, objectness=12.0)
BALANCERS = {
    'fixed': dict(type='mmfgl.FixedBalancer'),
    'uncertainty': dict(type='mmfgl.UncertaintyBalancer'),
    'dwa': dict(type='mmfgl.DWABalancer', interval=2),
    'famo': dict(type='mmfgl.FAMOBalancer'),
    'adaptive': dict(
        type='mmfgl.TaskAdaptiveLoss',
        speed=dict(costs=COSTS, warmup=1, speed=1.0),
    ),
}


def build(cfg):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    model.teacher_is_driven = True
    return model


def without(*tasks, **changes):
    head = dict(loss_diversity=None)
    for task in tasks:
        head.update(OFF[task])
    head.update(changes.pop('head', {}))
    return build(tiny_retod_cfg(head=head, **changes))


def losses_of(model, **options):
    batch = model.data_preprocessor(region_batch(**options), True)
    torch.manual_seed(0)
    return model(**batch, mode='loss')


def check_gradients(model, losses):
    model.parse_losses(losses)[0].backward()
    for name, param in model.named_parameters():
        if param.requires_grad:
            assert param.grad is not None, name
            assert param.grad.isfinite().all(), name


def forbid(monkeypatch, owner, name):
    def fail(*args, **kwargs):
        raise AssertionError(f'{name} was called')

    monkeypatch.setattr(owner, name, fail)


def loss_names(losses):
    return {task_of(key) for key in losses if 'loss' in key}


def test_without_coord(monkeypatch):
    model = without('coord')
    forbid(monkeypatch, model.roi_head.transformer, 'decode')
    losses = losses_of(model)
    assert loss_names(losses) == {'distill', 'mask'}
    assert 'coord_iou' not in losses and not hasattr(model.head, 'coord')
    check_gradients(model, losses)


@pytest.mark.parametrize('loss', ['loss_coord', 'loss_giou'])
def test_without_one_box_loss(loss):
    losses = losses_of(without(head={loss: None}))
    boxes = {'loss_coord', 'loss_giou'}
    assert boxes - set(losses) == {loss} and 'coord_iou' in losses


def test_without_mask(monkeypatch):
    model = without('mask')
    forbid(monkeypatch, model.head, 'draw_masks')
    losses = losses_of(model)
    assert loss_names(losses) == {'distill', 'coord'}
    assert not hasattr(model.head, 'mask_token')
    check_gradients(model, losses)


def test_without_distill():
    losses = losses_of(without('distill'))
    assert loss_names(losses) == {'mask', 'coord'}


def test_coord_alone(monkeypatch):
    model = without('distill', 'mask')
    assert not hasattr(model.head, 'projector')
    assert 'head.projector' not in model.teacher.names
    transformer = model.roi_head.transformer
    forbid(monkeypatch, transformer, 'encode')
    losses = losses_of(model)
    assert loss_names(losses) == {'coord'}
    assert 'teacher_entropy' not in losses
    check_gradients(model, losses)


def test_no_teacher_pass_if_nothing_needs_it(monkeypatch):
    model = without(
        'distill', 'mask', 'coord', head=dict(loss_diversity=DIVERSITY)
    )
    forbid(monkeypatch, model.teacher.backbone, 'forward')
    losses = losses_of(model)
    assert loss_names(losses) == {'diversity'}
    assert losses['loss_diversity'] > 0
    check_gradients(model, losses)


@pytest.mark.parametrize('mask', [True, False])
@pytest.mark.parametrize('symmetric', [True, False])
def test_views_the_teacher_sees(mask, symmetric):
    model = without(*([] if mask else ['mask']), symmetric=symmetric)
    seen = []
    model.teacher.backbone.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    batch = model.data_preprocessor(region_batch(num_images=3), True)
    losses = model(**batch, mode='loss')
    first, second = batch['inputs']
    if mask or symmetric:
        assert torch.equal(seen[0], torch.cat([first, second]))
    else:
        assert torch.equal(seen[0], second)
    assert loss_names(losses) >= {'distill', 'coord'}


def test_other_view_without_the_first(monkeypatch):
    """Leaving out the first view changes no cross-view target."""
    seen, state = [], None
    for cfg in (dict(), OFF['mask']):
        model = build(tiny_retod_cfg(head=cfg, symmetric=False))
        state = state or copy.deepcopy(model.state_dict())
        model.load_state_dict(state, strict=False)
        monkeypatch.setattr(model.head, 'targets', torch.nn.Softmax(dim=-1))
        distill = model.head.distill

        def spy(student, own, other, masked, distill=distill):
            seen.append(other)
            return distill(student, own, other, masked)

        monkeypatch.setattr(model.head, 'distill', spy)
        losses_of(model)
    torch.testing.assert_close(*seen)


def test_diversity_trains_beside_the_others():
    plain = losses_of(without())
    model = without(head=dict(loss_diversity=DIVERSITY))
    losses = losses_of(model)
    assert loss_names(losses) == {'distill', 'mask', 'coord', 'diversity'}
    for key, value in plain.items():
        torch.testing.assert_close(losses[key], value)
    check_gradients(model, losses)


def test_bbox_coder_is_needed():
    with pytest.raises(ValueError, match='bbox_coder'):
        without(head=dict(bbox_coder=None))
    without('coord', head=dict(bbox_coder=None))


def test_kl_is_the_loss_above_its_least_value():
    losses = losses_of(without())
    for name in ('distill', 'mask'):
        kl = losses[f'kl_{name}']
        assert not kl.requires_grad and 0 < kl < losses[f'loss_{name}']
    # a student equal to the teacher would have 0
    head = without().head
    targets = torch.rand(2, 4, 12).softmax(dim=-1)
    chosen = torch.ones(2, 4).bool()
    best = head.loss_distill(targets.log() * 0.1, targets, chosen)
    torch.testing.assert_close(best, head.loss_distill.floor(targets, chosen))


@pytest.mark.parametrize('kind', BALANCERS)
def test_balanced_training(kind):
    cfg = tiny_objectness_cfg(
        balancer=BALANCERS[kind], head=dict(loss_diversity=DIVERSITY)
    )
    model = build(cfg)
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(params, lr=1e-3))
    wrapper.zero_grad = lambda: None
    ran = []
    for step in range(6):
        for param in params:
            param.grad = None
        log = model.train_step(region_batch(num_objects=3, seed=step), wrapper)
        assert all(value.isfinite().all() for value in log.values())
        assert all(param.grad is not None for param in params)
        ran.append(frozenset(model.running))
        assert 'loss_diversity' in log
    if kind == 'adaptive':
        assert len(set(ran)) > 1
        assert {'gate_mask', 'skip_coord', 'floor_diversity'} <= set(log)
    else:
        assert set(ran) == {frozenset(model.tasks)}
    if kind == 'uncertainty':
        assert model.balancer.log_variances.grad.any()
        assert 'loss_balance' in log


def test_default_is_the_plain_sum():
    default = losses_of(without())
    fixed = losses_of(without(balancer=BALANCERS['fixed']))
    assert set(default) == set(fixed)
    for key, value in default.items():
        torch.testing.assert_close(fixed[key], value)


def test_weights_scale_every_loss_of_a_task():
    plain = losses_of(without())
    balancer = dict(type='mmfgl.FixedBalancer', weights=dict(coord=3.0))
    weighted = losses_of(without(balancer=balancer))
    for key in ('loss_coord', 'loss_giou'):
        torch.testing.assert_close(weighted[key], 3 * plain[key])
    torch.testing.assert_close(weighted['loss_mask'], plain['loss_mask'])


def test_comparable_losses():
    model = without(balancer=dict(type='mmfgl.FAMOBalancer'))
    plain, losses = losses_of(without()), losses_of(model)
    for name in ('distill', 'mask'):
        torch.testing.assert_close(
            losses[f'excess_{name}'], plain[f'kl_{name}']
        )
    boxes = (plain['loss_coord'] + plain['loss_giou']).detach() / 2
    torch.testing.assert_close(losses['excess_coord'], boxes)
    # the factor is that of the comparable loss
    factor = losses['weight_coord'] / 2
    torch.testing.assert_close(
        losses['loss_coord'], factor * plain['loss_coord']
    )


def skipping(monkeypatch, model, *names):
    rest = sorted(model.tasks - set(names))
    monkeypatch.setattr(
        model.balancer, 'draw', lambda: dict.fromkeys(rest, 1.0)
    )


def test_a_skipped_task_costs_nothing(monkeypatch):
    model = build(tiny_objectness_cfg())
    skipping(monkeypatch, model, 'coord', 'objectness', 'mask')
    forbid(monkeypatch, model.roi_head.transformer, 'decode')
    forbid(monkeypatch, model.rpn_head, 'forward')
    forbid(monkeypatch, model.head, 'draw_masks')
    losses = losses_of(model, num_objects=3)
    assert loss_names(losses) == {'distill'}
    # distributed training needs the gradients of all parameters
    check_gradients(model, losses)
    assert not model.rpn_head.rpn_cls.weight.grad.any()


def test_objectness_alone_in_a_step(monkeypatch):
    model = build(tiny_objectness_cfg())
    skipping(monkeypatch, model, 'coord', 'distill', 'mask')
    forbid(monkeypatch, model.teacher.backbone, 'forward')
    losses = losses_of(model, num_objects=3)
    assert loss_names(losses) == {'objectness'}
    check_gradients(model, losses)


def test_balancer_is_in_the_checkpoint():
    cfg = tiny_retod_cfg(
        balancer=dict(
            type='mmfgl.TaskAdaptiveLoss',
            speed=dict(costs=dict(coord=1.0, distill=1.0, mask=4.0), warmup=1),
        )
    )
    model = build(cfg)
    for seed in range(3):
        losses_of(model, seed=seed)
    other = build(cfg)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    for seed in range(4):
        one, two = losses_of(model, seed=seed), losses_of(other, seed=seed)
        assert set(one) == set(two)
        assert all(torch.equal(one[key], two[key]) for key in one)
