"""Boxes without area, turned round, not finite, or outside the image.

They come from annotations of another image size, crops, and proposals of
files. Nothing may turn them into a NaN loss, gradient or detection.
"""

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from mmfgl.models.layers import (
    border_overlap,
    iou_attention_mask,
    log_geometry,
    pairwise_iou,
    vote_neighbours,
)
from mmfgl.models.selfsup import TaskContext
from mmfgl.models.task_modules import CandidateSelector
from mmfgl.models.test_time_augs import View
from mmfgl.registry import MODELS
from mmfgl.testing import (
    assert_trained,
    detection_batch,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
)

NAN, INF = float('nan'), float('inf')
SIZE = (64, 96)  # height, width
EMPTY = dict(
    no_width=(10, 5, 10, 30),
    no_height=(10, 5, 30, 5),
    point=(0, 0, 0, 0),
    turned=(30, 40, 10, 20),
    narrow_turned=(30, 20, 10, 40),
    clipped=(96, 64, 96, 64),
    nan=(10, NAN, 30, 40),
    infinite=(10, 5, INF, 30),
)
STRANGE = dict(
    sliver=(10, 5, 10 + 1e-5, 30),
    outside=(200, 200, 260, 240),
    negative=(-90, -60, -20, -10),
    all=(0, 0, 96, 64),
    huge=(-1e5, -1e5, 1e5, 1e5),
)
ODD = EMPTY | STRANGE
BOXES = torch.tensor(list(ODD.values())).float()
USUAL = torch.tensor([[8.0, 8, 40, 40], [30, 10, 90, 60]])
MIXED = torch.cat([BOXES, USUAL])
DTYPES = [torch.float32, torch.bfloat16]


def with_boxes(boxes, num_images=2):
    """Images whose objects are these boxes; the last image has usual ones."""
    batch = detection_batch([SIZE] * num_images)
    for sample in batch['data_samples'][:-1]:
        labels = torch.arange(len(boxes)) % 3
        sample.gt_instances = InstanceData(
            bboxes=boxes.clone(), labels=labels
        )
    return batch


def losses_of(model, batch, dtype):
    model.train()
    torch.manual_seed(0)
    data = model.data_preprocessor(copy.deepcopy(batch), True)
    with torch.autocast('cpu', dtype, enabled=dtype != torch.float32):
        losses = model(**data, mode='loss')
    return losses


def build(cfg=None):
    torch.manual_seed(0)
    return MODELS.build(cfg or tiny_fgl_cfg())


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('name', [*ODD, 'together'])
def test_ground_truth(name, dtype):
    boxes = MIXED if name == 'together' else torch.tensor([ODD[name]])
    model = build()
    losses = losses_of(model, with_boxes(boxes.float()), dtype)
    assert_trained(model, model.parse_losses(losses)[0])
