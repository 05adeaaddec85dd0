import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

from mmfgl.engine.optim_wrapper import CPUAmpOptimWrapper
from mmfgl.models.selfsup.objectness import view_samples
from mmfgl.registry import MODELS
from mmfgl.testing import (
    region_batch,
    tiny_fgl_cfg,
    tiny_objectness_cfg,
    tiny_retod_cfg,
)

RPN = {'loss_rpn_cls', 'loss_rpn_bbox'}
BOX = {'loss_obj_cls', 'loss_obj_bbox', 'loss_obj_quality'}
OFF = dict(loss_distill=None, loss_mask=None, loss_coord=None, loss_giou=None)


def build(cfg=None):
    torch.manual_seed(0)
    # detectors' configs name mmdet's parts without a scope; the scope of a
    # pretraining is another
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg or tiny_objectness_cfg())
    model.teacher_is_driven = True
    return model


def batch_of(model, num_objects=3, **options):
    batch = region_batch(num_objects=num_objects, **options)
    return model.data_preprocessor(batch, True)


def losses_of(model, **options):
    batch = batch_of(model, **options)
    torch.manual_seed(0)
    return model(**batch, mode='loss')


def keys_of(losses):
    return {key for key in losses if 'loss' in key}


@pytest.mark.parametrize('symmetric', [True, False])
@pytest.mark.parametrize('num_objects', [0, 3])
def test_losses_and_gradients(symmetric, num_objects):
    model = build(tiny_objectness_cfg(symmetric=symmetric))
    losses = losses_of(model, num_objects=num_objects)
    assert keys_of(losses) > RPN | BOX
    assert 'obj_acc' in losses
    for key in RPN | BOX:
        assert losses[key].shape == () and losses[key].isfinite(), key
        assert losses[key].dtype == torch.float32
    total, _ = model.parse_losses(losses)
    total.backward()
    for name, param in model.named_parameters():
        if not name.startswith('teacher.'):
            assert param.grad is not None, name
            assert param.grad.isfinite().all(), name
    assert model.rpn_head.rpn_reg.weight.grad.any() == (num_objects > 0)
    assert model.rpn_head.rpn_cls.weight.grad.any()


def test_objectness_alone():
    model = build(tiny_objectness_cfg(head=OFF))
    losses = losses_of(model)
    assert keys_of(losses) == RPN | BOX
    model.parse_losses(losses)[0].backward()
    for name in ('backbone', 'neck', 'rpn_head', 'roi_head'):
        for key, param in getattr(model, name).named_parameters():
            assert param.grad is not None, f'{name}.{key}'


def test_rpn_without_box_head():
    cfg = tiny_objectness_cfg(roi_head=tiny_retod_cfg().roi_head)
    losses = losses_of(build(cfg))
    assert keys_of(losses) >= RPN and not keys_of(losses) & BOX


def test_rows_of_the_views():
    batch = region_batch(num_images=3, num_objects=2, num_labels=5)
    images = batch['data_samples']
    samples = view_samples(images, [0, 1], (64, 64), num_classes=5)
    assert len(samples) == 6
    for row, sample in enumerate(samples):
        view, image = divmod(row, 3)
        objects = images[image].objects
        chosen = objects[:, 0] == view
        truth = sample.gt_instances
        assert torch.equal(truth.bboxes, objects[chosen, 1:])
        assert torch.equal(truth.labels, images[image].object_labels[chosen])
        assert len(truth) == 2 and sample.img_shape == (64, 64)
    labels = [
        s.gt_instances.labels for s in view_samples(images, [1], (64, 64))
    ]
    assert len(labels) == 3 and not torch.cat(labels).any()


def test_pseudo_classes():
    model = build(tiny_objectness_cfg(num_classes=4))
    assert keys_of(losses_of(model, num_labels=4)) > BOX
    model = build(tiny_objectness_cfg(num_classes=2))
    with pytest.raises(ValueError, match='num_classes is 2'):
        losses_of(model, num_labels=4, num_objects=8)


def test_data_without_objects():
    model = build()
    with pytest.raises(KeyError, match="no 'objects'"):
        losses_of(model, num_objects=None)
    assert losses_of(build(tiny_retod_cfg()), num_objects=None)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(objectness=None), 'belong together'),
        (dict(rpn_head=None), 'belong together'),
        (dict(rpn_head=None, objectness=None), 'nothing would train'),
        (
            dict(
                rpn_head=None,
                objectness=None,
                roi_head=tiny_retod_cfg().roi_head,
                head=OFF,
            ),
            'all losses of ReToD are off',
        ),
    ],
)
def test_configs_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        build(tiny_objectness_cfg(**changes))


def test_config_is_left_alone():
    cfg = tiny_objectness_cfg()
    before = copy.deepcopy(cfg)
    build(cfg)
    assert cfg == before


def test_teacher_averages_the_heads():
    model = build()
    losses_of(model)
    for name in ('rpn_head.rpn_cls.bias', 'roi_head.bbox_head.fc_reg.bias'):
        param = model.get_parameter(name)
        before = param.detach().clone()
        with torch.no_grad():
            param += 1
        model.update_teacher(0.75)
        averaged = model.teacher.get_parameter(name)
        torch.testing.assert_close(averaged, before + 0.25)


def test_names_are_those_of_the_detector():
    state = build().state_dict()
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(tiny_fgl_cfg(num_classes=5))
    other = [
        key
        for key, value in detector.state_dict().items()
        if key not in state or state[key].shape != value.shape
    ]
    assert other == [
        'roi_head.bbox_head.fc_cls.weight',
        'roi_head.bbox_head.fc_cls.bias',
    ]


def test_bf16_training_step(monkeypatch):
    monkeypatch.setattr('mmfgl.engine.optim_wrapper.get_device', lambda: 'cpu')
    model = build()
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(params, lr=0.01))
    log = model.train_step(region_batch(num_objects=3), wrapper)
    assert all(value.isfinite() for value in log.values())


def test_training_finds_the_objects():
    model = build(tiny_objectness_cfg(head=OFF))
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.Adam(params, lr=3e-3))
    torch.manual_seed(0)
    logs = [
        model.train_step(region_batch(num_objects=3), wrapper)
        for _ in range(40)
    ]
    for key in RPN:
        first, last = (
            sum(log[key].item() for log in part)
            for part in (logs[:4], logs[-4:])
        )
        assert last < 0.8 * first, key
