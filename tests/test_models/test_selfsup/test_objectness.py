import math
from types import SimpleNamespace

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmengine.structures import InstanceData

from mmfgl.models.dense_heads import BatchedRPNHead
from mmfgl.models.selfsup import TaskContext
from mmfgl.models.selfsup.tasks.objectness import (
    pseudo_samples,
    uninformed_loss,
)
from mmfgl.registry import MODELS
from mmfgl.testing import region_batch, tiny_fgl_cfg, tiny_plain_detector_cfg

PARTS = {'rpn_cls', 'rpn_bbox', 'cls', 'bbox', 'quality', 'acc'}


@pytest.mark.parametrize('num_views', [1, 2])
@pytest.mark.parametrize('num_objects', [0, 3])
def test_losses_and_gradients(retod, num_views, num_objects):
    model = retod.build('objectness')
    losses = retod.losses_of(
        model, num_views=num_views, num_objects=num_objects
    )
    assert set(losses) == {'loss_objectness'} | {
        f'objectness/{part}' for part in PARTS
    }
    loss = losses['loss_objectness']
    assert loss.shape == () and loss.dtype == torch.float32
    parts = sum(losses[f'objectness/{p}'] for p in PARTS - {'acc'})
    torch.testing.assert_close(loss.detach(), parts)
    retod.check_gradients(model, losses)
    assert model.rpn_head.rpn_reg.weight.grad.any() == (num_objects > 0)
    assert model.rpn_head.rpn_cls.weight.grad.any()


def test_is_the_detectors_own_loss(retod):
    """The sum is what the wrapped detector computes on the same samples."""
    detector = tiny_plain_detector_cfg(num_classes=4)
    for stage in (detector.train_cfg.rpn, detector.train_cfg.rcnn):
        stage.sampler.num = 10_000  # all, so none is drawn at random
    model = retod.build('objectness', detector=detector).eval()
    batch = retod.batch_of(model, num_labels=4)
    views = torch.cat(batch['inputs'])
    context = TaskContext(model, views, batch['data_samples'])
    torch.manual_seed(0)
    value = model.tasks['objectness'].loss(context).value
    plain = MODELS.build(detector).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    torch.manual_seed(0)
    losses = plain.loss(views, pseudo_samples(context))
    expected, _ = plain.parse_losses(losses)
    torch.testing.assert_close(value, expected)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_pools_from_the_same_levels(retod, monkeypatch, dtype):
    """mmdet's extractor would choose them by RoIs in the maps' dtype."""
    model = retod.build('objectness', detector=tiny_plain_detector_cfg(1))
    batch = retod.batch_of(model)
    views = torch.cat(batch['inputs'])
    feats = tuple(level.to(dtype) for level in model.extract_feat(views))
    context = TaskContext(model, views, batch['data_samples'])
    context.feats = feats
    boxes = torch.tensor([[4.0, 4, 40, 50], [10, 8, 60, 30]])
    proposals = [InstanceData(bboxes=boxes) for _ in views]
    monkeypatch.setattr(
        model.rpn_head, 'loss_and_predict', lambda *_, **__: ({}, proposals)
    )
    seen = []
    model.roi_head.bbox_roi_extractor.register_forward_pre_hook(
        lambda _, args: seen.append((args[0][0].dtype, args[1].dtype))
    )
    assert model.tasks['objectness'].loss(context).value.isfinite()
    assert seen == [(torch.float32, torch.float32)]


def test_rows_of_the_views(retod):
    batch = region_batch(num_images=3, num_objects=2, num_labels=5)
    images = batch['data_samples']
    model = retod.build('objectness')
    context = TaskContext(model, torch.zeros(6, 3, 64, 48), images)
    samples = pseudo_samples(context)
    assert len(samples) == 6
    for row, sample in enumerate(samples):
        view, image = divmod(row, 3)
        chosen = images[image].objects[:, 0] == view
        truth = sample.gt_instances
        assert torch.equal(truth.bboxes, images[image].objects[chosen, 1:])
        assert torch.equal(truth.labels, images[image].object_labels[chosen])
        assert len(truth) == 2 and sample.img_shape == (64, 48)


def test_pseudo_classes(retod):
    detector = tiny_fgl_cfg(num_classes=4)
    model = retod.build('objectness', detector=detector)
    assert retod.losses_of(model, num_labels=4)['objectness/cls'] > 0
    model = retod.build('objectness', detector=tiny_fgl_cfg(num_classes=2))
    with pytest.raises(ValueError, match='num_classes is 2'):
        retod.losses_of(model, num_labels=4, num_objects=8)
    batch = retod.batch_of(model)
    batch['data_samples'][1].set_metainfo(dict(max_label=2, img_path='a.jpg'))
    with pytest.raises(ValueError, match='pseudo-class 2 .* a.jpg'):
        retod.losses_of(model, batch)
    del batch['data_samples'][0].num_objects
    with pytest.raises(KeyError, match='PackRegionViews'):
        retod.losses_of(model, batch)


def test_data_without_objects(retod):
    with pytest.raises(KeyError, match="no 'objects'"):
        retod.losses_of(retod.build('objectness'), num_objects=None)
    assert retod.losses_of(retod.build(), num_objects=None)


@pytest.mark.parametrize('kind', ['RPNHead', 'mmdet.RPNHead'])
def test_rpn_is_the_batched_one(retod, kind):
    """Weights and the detector's config are as without it."""
    detector = tiny_plain_detector_cfg(num_classes=1)
    detector.rpn_head.type = kind
    model = retod.build('objectness', detector=detector)
    assert type(model.rpn_head) is BatchedRPNHead
    assert detector.rpn_head.type == kind
    plain = MODELS.build(detector).rpn_head
    assert type(plain) is RPNHead
    plain.load_state_dict(model.rpn_head.state_dict())


def test_other_rpn_stays(retod):
    detector = tiny_plain_detector_cfg(num_classes=1)
    detector.rpn_head.type = OtherRPN
    model = retod.build('objectness', detector=detector)
    assert type(model.rpn_head) is OtherRPN


class OtherRPN(RPNHead):
    """Not the plain one."""


def test_a_head_that_calls_a_loss_otherwise_counts_too():
    def loss(weight):
        return SimpleNamespace(loss_weight=weight)

    rpn = SimpleNamespace(loss_cls=loss(2.0), loss_bbox=loss(3.0))
    head = SimpleNamespace(num_classes=1, loss_cls=loss(1.0))  # as SABL's
    roi_head = SimpleNamespace(bbox_head=head)
    model = SimpleNamespace(rpn_head=rpn, roi_head=roi_head)
    expected = 2 * math.log(2) + 3 + math.log(2) + 1
    assert uninformed_loss(model) == pytest.approx(expected)
