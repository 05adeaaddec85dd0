import pytest
import torch
from mmengine.optim import OptimWrapper

from mmfgl.registry import MODELS
from mmfgl.testing import tiny_retod_cfg
from mmfgl.testing.models import tiny_backbone_cfg


@pytest.fixture
def dense(tmp_path):
    """Config of the task, with a tiny teacher of random weights."""
    path = tmp_path / 'teacher.pth'
    torch.manual_seed(3)
    torch.save(MODELS.build(tiny_backbone_cfg()).state_dict(), path)
    return dict(
        type='mmfgl.DenseDistillTask',
        teacher=dict(
            type='mmfgl.FrozenTeacher',
            backbone=tiny_backbone_cfg(),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
            init_cfg=dict(type='Pretrained', checkpoint=str(path)),
        ),
        backbone=[(8, 0), (16, 1), (32, 2), (64, 3)],
        neck=[(16, 1), None, (16, 1)],  # twice and half the teacher's size
        loss_weight=5.0,
    )


def model_of(retod, *tasks):
    cfg = tiny_retod_cfg('objectness', tasks=list(tasks))
    model = retod.build(cfg=cfg)
    model.init_weights()
    return model


OBJECTNESS = dict(type='mmfgl.ObjectnessTask')


@pytest.mark.parametrize('tasks', [(), (OBJECTNESS,)], ids=['alone', 'with'])
def test_trains_every_parameter(retod, dense, tasks):
    """Alone too, though RPN and RoI head have no loss then."""
    model = model_of(retod, dense, *tasks)
    losses = retod.losses_of(model, num_views=1)
    assert losses['loss_dense'].dtype is torch.float32
    assert losses['dense/neck2'].isfinite()
    assert 'dense/neck1' not in losses
    retod.check_gradients(model, losses)


def test_maps_come_closer(retod, dense):
    """The same batch again and again: the cosine rises by far."""
    model = model_of(retod, dense)
    batch = retod.batch_of(model, num_views=1)
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), 3e-3))
    seen = []
    for _ in range(25):
        losses = retod.losses_of(model, batch)
        seen.append(losses['loss_dense'].item())
        optim.update_params(model.parse_losses(losses)[0])
    assert seen[-1] < 0.8 * seen[0]


def test_a_teacher_of_itself_is_met(retod, dense):
    """Backbone equal to the teacher, projections the identity: no loss."""
    del dense['neck']
    model = model_of(retod, dense).eval()
    task = model.tasks['dense']
    model.backbone.load_state_dict(task.teacher._frozen[0].state_dict())
    batch = retod.batch_of(model, num_views=1)
    views = torch.cat(batch['inputs'])
    for conv, level in zip(
        task.convs.values(), model.backbone(views), strict=True
    ):
        var, mean = torch.var_mean(level, (0, 2, 3))
        scale = (var + 1e-6).rsqrt()
        conv.weight.data = torch.diag(scale)[..., None, None]
        conv.bias.data = -mean * scale
    assert retod.losses_of(model, batch)['loss_dense'] < 1e-3


def test_nothing_to_match(dense):
    with pytest.raises(ValueError, match='no map to match'):
        MODELS.build({**dense, 'backbone': (), 'neck': ()})
