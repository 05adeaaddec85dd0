"""mmdet's mask branch on an FGL RoI head."""

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    half_dtypes,
    randomise_weights,
    tiny_fgl_cfg,
)

CLASSES = 3
SIZES = [(64, 96), (80, 64)]


def build(shared=False):
    """Its own extractor of 6 x 6 cells, or the box branch's 3 x 3 cells."""
    cfg = tiny_fgl_cfg(CLASSES)
    cfg.data_preprocessor.pad_mask = True
    cfg.roi_head.mask_head = dict(
        type='FCNMaskHead',
        num_convs=1,
        in_channels=16,
        conv_out_channels=8,
        num_classes=CLASSES,
    )
    if not shared:
        cfg.roi_head.mask_roi_extractor = dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=6, sampling_ratio=0),
            out_channels=16,
            featmap_strides=[4, 8, 16, 32],
        )
    cfg.train_cfg.rcnn.mask_size = 6 if shared else 12
    cfg.test_cfg.rcnn.mask_thr_binary = 0.5
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg)


def batch_of(num_boxes):
    """Objects whose masks are their boxes."""
    batch = detection_batch(SIZES, num_boxes, CLASSES)
    for size, sample in zip(SIZES, batch['data_samples'], strict=True):
        boxes = sample.gt_instances.bboxes
        masks = np.zeros((len(boxes), *size), np.uint8)
        for mask, box in zip(masks, boxes.int().tolist(), strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = 1
        sample.gt_instances.masks = BitmapMasks(masks, *size)
    return batch


@pytest.mark.parametrize('shared', [False, True], ids=['own', 'shared'])
@pytest.mark.parametrize('num_boxes', [3, (3, 0), 0], ids=str)
def test_every_parameter_gets_a_gradient(shared, num_boxes):
    model = build(shared).train()
    data = model.data_preprocessor(batch_of(num_boxes), True)
    losses = model(**data, mode='loss')
    assert (losses['loss_mask'] > 0) == (num_boxes != 0)
    assert_trained(model, model.parse_losses(losses)[0])


@pytest.mark.parametrize('dtype', half_dtypes(), ids=str)
@pytest.mark.parametrize('shared', [False, True], ids=['own', 'shared'])
def test_half_precision(shared, dtype):
    model = build(shared)
    data = model.data_preprocessor(batch_of(3), True)
    samples = data['data_samples']
    feats = model.extract_feat(data['inputs'])
    proposals = model.propose(feats, samples)
    expected = model.roi_head.loss(feats, proposals, samples)
    halves = tuple(level.to(dtype) for level in feats)
    with torch.autocast('cpu', dtype):
        losses = model.roi_head.loss(halves, proposals, samples)
        assert losses['loss_mask'].dtype == torch.float32
        (result, _) = model.roi_head.predict(halves, proposals, samples)
    assert result.masks.dtype == torch.bool
    torch.testing.assert_close(
        losses['loss_mask'], expected['loss_mask'], rtol=0.05, atol=0.01
    )


@pytest.mark.parametrize('shared', [False, True], ids=['own', 'shared'])
@pytest.mark.parametrize('counts', [None, (0, 0), (0, 4)], ids=str)
def test_masks_lie_in_their_boxes(shared, counts):
    model = build(shared)
    randomise_weights(model.roi_head).eval()
    batch = detection_batch(SIZES, num_boxes=4)
    for sample, count in zip(batch['data_samples'], counts or ()):
        sample.proposals = sample.gt_instances[:count]
    results = model.test_step(batch)
    filled = 0
    for size, result in zip(SIZES, results, strict=True):
        found = result.pred_instances
        # masks are those of the original image, twice the input's size
        assert found.masks.shape == (len(found), 2 * size[0], 2 * size[1])
        assert found.masks.dtype == torch.bool
        for mask, box in zip(found.masks, found.bboxes.tolist(), strict=True):
            x1, y1, x2, y2 = (round(side) for side in box)
            outside = mask.clone()
            outside[max(y1 - 1, 0) : y2 + 1, max(x1 - 1, 0) : x2 + 1] = False
            assert not outside.any()
            filled += int(mask.any())
    assert (filled > 0) == (counts != (0, 0))
    for result, count in zip(results, counts or (4, 4), strict=True):
        assert (len(result.pred_instances) > 0) == (count > 0)
