"""CPU and GPU compute the same: losses, gradients, levels, predictions."""

import copy

import pytest
import torch
from mmengine.registry import DefaultScope

from mmfgl.models.layers import DeviceRoIPool, roi_levels
from mmfgl.models.roi_heads import FGLRoIExtractor
from mmfgl.models.selfsup.region_encoding import Masking
from mmfgl.models.task_modules import batched_sampling
from mmfgl.registry import MODELS
from mmfgl.testing import (
    detection_batch,
    randomise_weights,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
    tiny_retod_cfg,
)
from tests.test_configs import DETECTORS, batch_of, build, read, scope_of

pytestmark = pytest.mark.gpu
# Sums of thousands of products in another order; TF32 is off.
LOSS = dict(rtol=1e-3, atol=1e-4)
GRADIENT = dict(rtol=1e-2, atol=1e-3)
PIXELS, SCORE = 0.1, 1e-3


@pytest.fixture(autouse=True)
def same_samples(monkeypatch):
    """The samplers draw on the CPU, as mmdet's do."""
    monkeypatch.setattr(
        batched_sampling,
        'random_keys',
        lambda like: torch.rand(like.shape).to(like.device),
    )


def twins(cfg, device):
    """The same weights on the CPU and on the device under test."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
    if hasattr(model, 'teacher_is_driven'):
        model.teacher_is_driven = True
    randomise_weights(model.roi_head, 0.1)
    return model, copy.deepcopy(model).to(device)


def losses_of(model, batch):
    torch.manual_seed(0)  # of the samplers
    inputs = model.data_preprocessor(copy.deepcopy(batch), True)
    loss, logs = model.parse_losses(model(**inputs, mode='loss'))
    loss.backward()
    return {name: float(value.detach()) for name, value in logs.items()}


def assert_agree(one, other, batch):
    expected, found = losses_of(one, batch), losses_of(other, batch)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(
            value, rel=LOSS['rtol'], abs=LOSS['atol']
        ), name
    grads = dict(other.named_parameters())
    for name, param in one.named_parameters():
        if param.grad is not None:
            torch.testing.assert_close(
                grads[name].grad.cpu(), param.grad, **GRADIENT, msg=name
            )


@pytest.mark.parametrize('detector', [tiny_fgl_cfg, tiny_plain_detector_cfg])
def test_detector_losses(detector, device):
    assert_agree(*twins(detector(), device), detection_batch())


@pytest.mark.parametrize(
    'tasks', [('objectness',), ('objectness', 'distill', 'mask', 'diversity')]
)
def test_retod_losses(tasks, device):
    one, other = twins(tiny_retod_cfg(*tasks), device)
    if 'mask' in tasks:
        masked = torch.rand(4, 6, generator=torch.manual_seed(1)) < 0.4
        for model in (one, other):
            task = model.tasks['mask']
            task.draw = lambda *shape, task=task: Masking(
                masked.to(task.mask_token.device),
                task.mask_token,
                task.leak_iou,
            )
    assert_agree(one, other, region_batch(num_objects=3))


def share_found(expected, found):
    """Share of predictions with a twin of the same class, box and score."""
    if not len(expected):
        return float(len(found) == 0)
    found = found.to('cpu')
    near = torch.cdist(expected.bboxes, found.bboxes, p=torch.inf) < PIXELS
    same = expected.labels[:, None] == found.labels
    close = (expected.scores[:, None] - found.scores).abs() < SCORE
    return (near & same & close).any(dim=1).float().mean()


@torch.no_grad()
@pytest.mark.parametrize('num_targets', [None, 8])
def test_predictions(device, num_targets):
    one, other = twins(tiny_fgl_cfg(num_targets=num_targets), device)
    results = [m.eval().test_step(detection_batch()) for m in (one, other)]
    for expected, found in zip(*results, strict=True):
        assert len(expected.pred_instances) > 0
        # a tie in NMS may fall either way
        assert share_found(expected.pred_instances, found.pred_instances) > 0.9


@torch.no_grad()
def test_test_time_augmentation(device, data):
    path = next(p for p in DETECTORS if p.stem.startswith('fgl-faster-rcnn_r'))
    path = path.with_name('fgl-faster-rcnn_r50_fpn_8xb2-1x_coco.py')
    cfg = read(path)
    with scope_of(cfg):
        one = build(cfg).eval()
        results = []
        for model in (one, copy.deepcopy(one).to(device)):
            tta = MODELS.build(dict(**cfg.tta_model, module=model))
            batch = batch_of(
                cfg.test_dataloader, data, 'val', cfg.tta_pipeline
            )
            results.append(tta.test_step(batch))
    for expected, found in zip(*results, strict=True):
        assert share_found(expected.pred_instances, found.pred_instances) > 0.9


def some_rois(num=400):
    generator = torch.manual_seed(0)
    corner = torch.rand(num, 2, generator=generator) * 900
    sides = 2 ** (torch.rand(num, 2, generator=generator) * 9)
    image = torch.randint(2, (num, 1), generator=generator)
    return torch.cat([image.float(), corner, corner + sides], dim=1)


@pytest.mark.parametrize('shift', [0, 1, 'nearest'])
def test_levels_are_equal(device, shift):
    rois = some_rois()
    # sides at the border between two levels
    exact = torch.tensor([[0, 0, 0, 56 * 2**k, 56 * 2**k] for k in range(5)])
    rois = torch.cat([rois, exact.float()])
    expected = roi_levels(rois, 4, 56, shift)
    found = roi_levels(rois.to(device), 4, 56, shift).cpu()
    # log2 of a GPU may differ in its last bit
    assert (found != expected).sum() <= (device.type != 'cpu') * 2
    assert len(expected.unique()) >= 3


@pytest.mark.parametrize('layer', ['RoIAlign', 'RoIPool'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_roi_features(device, layer, dtype):
    torch.manual_seed(0)
    options = dict(sampling_ratio=2) if layer == 'RoIAlign' else {}
    extractor = FGLRoIExtractor(
        dict(type=layer, output_size=7, **options), 8, [4, 8, 16, 32]
    )
    feats = [torch.randn(2, 8, 256 // 2**k, 256 // 2**k) for k in range(4)]
    feats = [level.to(dtype) for level in feats]
    rois = some_rois()
    expected = extractor(feats, rois)
    moved = extractor.to(device)
    found = moved([level.to(device) for level in feats], rois.to(device))
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_roi_pool_gradient(device):
    feats = torch.randn(2, 4, 32, 32, generator=torch.manual_seed(0))
    rois = some_rois(50)
    grads = []
    for where in ('cpu', device):
        maps = feats.detach().to(where).requires_grad_()
        out = DeviceRoIPool(5, 1 / 32)(maps, rois.to(where))
        out.square().sum().backward()
        grads.append(maps.grad.cpu())
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)
