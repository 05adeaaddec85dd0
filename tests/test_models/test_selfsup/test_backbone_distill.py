import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS
from mmfgl.testing.models import tiny_backbone_cfg

RGB = dict(mean=[127.5] * 3, std=[64.0] * 3, bgr_to_rgb=True)


@pytest.fixture
def build(tmp_path):
    """Builds a tiny student of a tiny teacher of random weights."""
    path = tmp_path / 'teacher.pth'
    torch.manual_seed(3)
    torch.save(MODELS.build(tiny_backbone_cfg()).state_dict(), path)
    teacher = dict(
        type='mmfgl.FrozenTeacher',
        backbone=dict(tiny_backbone_cfg()),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    )

    def build(levels=(0, 1, 2, 3), **options):
        torch.manual_seed(0)
        teacher['backbone']['out_indices'] = levels
        cfg = dict(
            type='mmfgl.BackboneDistill',
            backbone=dict(tiny_backbone_cfg(), out_indices=(3,)),
            in_channels=64,
            teacher=teacher,
            data_preprocessor=dict(type='SelfSupDataPreprocessor', **RGB),
            queue_len=16,
            **options,
        )
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(cfg)
        model.target_generator.init_weights()
        return model

    return build


def batch_of(size=4, views=1):
    generator = torch.manual_seed(1)
    shape = (size, 3, 64, 64)
    inputs = [torch.rand(shape, generator=generator) * 255] * views
    return dict(inputs=inputs, data_samples=[])


@pytest.mark.parametrize('levels', [(3,), (0, 1, 2)], ids=['same', 'finer'])
def test_trains_every_parameter(build, levels):
    """Also where the teacher's map is finer than the student's."""
    model = build(levels)
    losses = model(**model.data_preprocessor(batch_of(), True), mode='loss')
    assert list(losses) == ['loss_global', 'loss_local']
    model.parse_losses(losses)[0].backward()
    for name, param in model.named_parameters():
        assert param.grad is not None and param.grad.isfinite().all(), name
    names = {name.partition('.')[0] for name in model.state_dict()}
    assert names == {
        'backbone',
        'global_projector',
        'local_projector',
        'global_loss',
    }
    assert model.global_loss.count == 4


def test_losses_fall(build):
    model = build()
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=3e-3))
    logs = [model.train_step(batch_of(8), wrapper) for _ in range(30)]
    for key in ('loss_global', 'loss_local'):
        assert logs[-1][key] < logs[0][key] / 2, key


def test_weights_and_views(build):
    """The local loss is weighted, all views are seen."""
    values = []
    for weight, views in ((1.0, 1), (0.5, 1), (1.0, 2)):
        model = build(local_weight=weight)
        batch = model.data_preprocessor(batch_of(views=views), True)
        values.append(model(**batch, mode='loss'))
        assert model.global_loss.count == 4 * views
    first, half, _ = values
    torch.testing.assert_close(half['loss_local'] * 2, first['loss_local'])
    assert half['loss_global'] == first['loss_global']


def test_sees_what_the_teacher_expects(build):
    """The teacher gets the pixels it knows: RGB of its own mean."""
    model = build()
    batch = batch_of()
    seen = []
    model.target_generator._frozen[0].register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    model(**model.data_preprocessor(batch, True), mode='loss')
    # the tiny teacher wants BGR, the student's preprocessor makes RGB
    expected = (batch_of()['inputs'][0] - 127.5) / 64.0
    torch.testing.assert_close(seen[0], expected)
