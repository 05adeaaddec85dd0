"""Training on two ranks.

Two ranks with b images each get the gradients of one rank with all 2b, and
what follows from them, to rounding (``TOLERANCE``). It holds where

- BatchNorm is in evaluation mode, or SyncBatchNorm: else each rank normalises
  by its own images;
- all ranks have equally many samples: MMDetection's losses are divided by
  those of the rank, so its samplers take all here, and all images have
  equally many objects (all of FGL's and ReToD's own are divided by those of
  all ranks);
- nothing is drawn at random: ranks have masks and dropout of their own.
"""

import pytest
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DefaultScope
from torch import nn

from mmfgl.models.selfsup.region_encoding import Masking
from mmfgl.models.selfsup.tasks import MaskedRegionTask
from mmfgl.registry import MODELS
from mmfgl.testing import detection_batch, region_batch
from tests.test_engine.rank_models import (
    KINDS,
    OBJECTS,
    TEACHER_BOXES,
    config_of,
    scope_of,
    write_regions,
)

TOLERANCE = dict(rtol=1e-3, atol=1e-5)
STEPS = 20  # beside one rank
# which boxes a teacher finds, a last bit may decide: of these the gradients
BOXES = 'retod, teacher boxes'
RUNS = {**dict.fromkeys(KINDS, STEPS), BOXES: 1}


def comparable(kind, folder, boxes):
    """A model that treats every image alike, whatever it is batched with."""
    cfg = config_of(kind, folder, teacher_boxes=boxes)
    samplers = cfg.detector if kind == 'retod' else cfg
    for stage in ('rpn', 'rcnn'):
        samplers.train_cfg[stage].sampler.num = 10**6
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(scope_of(kind)):
        model = MODELS.build(cfg)
    model.teacher_is_driven = True
    model.train()
    for module in model.modules():
        if getattr(module, 'running_mean', None) is not None:
            module.eval()
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.p = module.dropout = 0.0
    return model


def same_masks(task, num_views, num_regions):
    """Like ``MaskedRegionTask.draw``, but alike for all views."""
    masked = torch.arange(num_regions).expand(num_views, -1) % 3 == 0
    return Masking(masked, task.mask_token, task.leak_iou)


def batch_of(kind, step):
    """A batch of 4 images, or the half of it that is this rank's."""
    if kind == 'fgl':
        batch = detection_batch([(64, 96)] * 4, OBJECTS, seed=step)
    else:
        batch = region_batch(num_images=4, num_objects=OBJECTS, seed=step)
    count = 4 // get_world_size()
    own = slice(get_rank() * count, (get_rank() + 1) * count)
    views = kind == 'retod'
    inputs = batch['inputs']
    return dict(
        inputs=[x[own] for x in inputs] if views else inputs[own],
        data_samples=batch['data_samples'][own],
    )


def follow(run, folder):
    """Gradients of the first step, weights and buffers after the last."""
    kind, boxes = run.partition(',')[0], None
    if run == BOXES:
        boxes = TEACHER_BOXES
    model = comparable(kind, folder, boxes)
    wrapped = model
    if get_world_size() > 1:
        wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9)
    gradients = None
    hub = MessageHub.get_instance(f'follow {run}')  # which tasks ask
    hub.update_info_dict(dict(iter=0, max_iters=STEPS))
    for step in range(RUNS[run]):
        data = model.data_preprocessor(batch_of(kind, step), True)
        losses = wrapped(**data, mode='loss')
        if boxes:
            assert losses['objectness/teacher_boxes'] == 1.0
        optimizer.zero_grad()
        model.parse_losses(losses)[0].backward()
        gradients = gradients or {
            name: param.grad.clone()
            for name, param in model.named_parameters()
            if param.grad is not None
        }
        optimizer.step()
        if kind == 'retod':
            model.update_teacher(0.9)
    return dict(gradients=gradients, weights=model.state_dict())


def run_rank(folder):
    """Everything that one rank computes."""
    write_regions(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MaskedRegionTask, 'draw', same_masks)
        return {run: follow(run, folder) for run in RUNS}


def test_two_ranks(two_ranks, monkeypatch):
    first, second, folder = two_ranks('test_engine')
    monkeypatch.setattr(MaskedRegionTask, 'draw', same_masks)
    for run in RUNS:
        one, two, whole = first[run], second[run], follow(run, folder)
        for part in ('gradients', 'weights'):
            assert one[part].keys() == two[part].keys()
            for key, value in one[part].items():
                assert torch.equal(value, two[part][key]), (run, part, key)
            for key, value in whole[part].items():
                torch.testing.assert_close(
                    one[part][key],
                    value,
                    msg=lambda text, name=(run, part, key): f'{name}: {text}',
                    **TOLERANCE,
                )
