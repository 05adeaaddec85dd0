"""Fake batches for tests, as data loaders hand them to a model."""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from mmfgl.datasets.region_data_sample import RegionDataSample


def random_boxes(
    num: int, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """(num, 4) float32 boxes in pixels, inside an image.

    Their sides are a fifth to three fifths of its ``size`` (height, width).
    """
    frame = np.array([size[1], size[0]])
    sides = rng.uniform(0.2, 0.6, (num, 2)) * frame
    corner = rng.uniform(size=(num, 2)) * (frame - sides)
    return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def detection_batch(
    sizes: Sequence[tuple[int, int]] = ((64, 96), (80, 64)),
    num_boxes: int | Sequence[int] = 3,
    num_classes: int = 3,
    seed: int = 0,
) -> dict:
    """Images and ground truth as a data loader hands them to a detector.

    ``sizes`` are (height, width) of the images; ``num_boxes`` are the objects
    of all or of each. ``inputs`` are uint8 images (3, H, W).
    """
    rng = np.random.default_rng(seed)
    if isinstance(num_boxes, int):
        num_boxes = [num_boxes] * len(sizes)
    inputs, samples = [], []
    for index, (size, count) in enumerate(zip(sizes, num_boxes, strict=True)):
        inputs.append(_image(size, rng))
        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=size,
                ori_shape=(2 * size[0], 2 * size[1]),
                scale_factor=(0.5, 0.5),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.from_numpy(random_boxes(count, size, rng)),
            labels=torch.from_numpy(rng.integers(0, num_classes, count)),
        )
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long()
        )
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def region_samples(
    num_images: int = 2,
    num_regions: int = 6,
    size: int = 64,
    seed: int = 0,
    num_objects: int | None = None,
    num_labels: int = 1,
    num_views: int = 2,
) -> list[dict]:
    """What a data set of unlabelled images returns, image by image.

    The V views, uint8 (3, ``size``, ``size``), are unrelated noise images;
    enough for a training step. The objects of an image have the rows 0, 1, ...
    of a region file, the regions none. ``num_regions`` (N, may be 0) and
    ``num_objects`` (pseudo objects of ``num_labels`` classes; ``None`` for
    data without) count for each view.
    """
    rng = np.random.default_rng(seed)
    frame = (size, size)
    items = []
    for _ in range(num_images):
        sample = RegionDataSample()
        boxes = random_boxes(num_views * num_regions, frame, rng)
        sample.boxes = torch.from_numpy(boxes).view(num_views, num_regions, 4)
        sample.rows = torch.full((num_regions,), -1)  # random boxes
        inputs = [_image(frame, rng) for _ in range(num_views)]
        if num_objects is not None:
            count = num_views * num_objects
            views = torch.arange(num_views).repeat_interleave(num_objects)
            objects = torch.from_numpy(random_boxes(count, frame, rng))
            sample.objects = torch.cat([views[:, None], objects], 1)
            labels = rng.integers(0, num_labels, count)
            sample.object_labels = torch.from_numpy(labels)
            sample.set_metainfo(
                dict(
                    num_objects=(num_objects,) * num_views,
                    max_label=int(labels.max(initial=-1)),
                )
            )
            sample.object_rows = torch.arange(count)
        items.append(dict(inputs=inputs, data_samples=sample))
    return items


def region_batch(**kwargs) -> dict:
    """The images of :func:`region_samples`, collated.

    ``inputs`` are V uint8 tensors (B, 3, H, W).
    """
    items = region_samples(**kwargs)
    views = zip(*[item['inputs'] for item in items], strict=True)
    return dict(
        inputs=[torch.stack(view) for view in views],
        data_samples=[item['data_samples'] for item in items],
    )


def _image(size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """(3, H, W) uint8 image of random blocks of 8 x 8 pixels."""
    height, width = size
    blocks = rng.integers(0, 256, (3, -(-height // 8), -(-width // 8)))
    image = blocks.repeat(8, axis=1).repeat(8, axis=2)
    return torch.from_numpy(image[:, :height, :width].astype(np.uint8))
