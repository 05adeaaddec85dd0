import pytest
import torch
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, tiny_retod_cfg


def build(*tasks, cfg=None, **options):
    """A tiny ReToD in the scope of a pretraining, its teacher driven."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg or tiny_retod_cfg(*tasks, **options))
    model.teacher_is_driven = True
    return model


def batch_of(model, **options):
    options.setdefault('num_objects', 3)
    return model.data_preprocessor(region_batch(**options), True)


def losses_of(model, batch=None, **options):
    batch = batch or batch_of(model, **options)
    torch.manual_seed(0)
    return model(**batch, mode='loss')


def check_gradients(model, losses):
    """Every parameter that is trained gets a finite gradient."""
    model.parse_losses(losses)[0].backward()
    for name, param in model.named_parameters():
        if name.startswith('target_generator.'):
            assert not param.requires_grad and param.grad is None, name
        else:
            assert param.grad is not None, name
            assert param.grad.isfinite().all(), name


def names_of(losses):
    return {key.removeprefix('loss_') for key in losses if 'loss' in key}


@pytest.fixture
def retod():
    """The helpers above, for test files of this folder."""

    class Helpers:
        build = staticmethod(build)
        batch_of = staticmethod(batch_of)
        losses_of = staticmethod(losses_of)
        check_gradients = staticmethod(check_gradients)
        names_of = staticmethod(names_of)

    return Helpers
