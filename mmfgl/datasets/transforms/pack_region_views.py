"""Packing of region views for the model."""

import numpy as np
import torch
from mmcv.transforms import BaseTransform, to_tensor

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackRegionViews(BaseTransform):
    """Pack the output of :class:`RegionViews` for :class:`ReToD`.

    Returns ``dict(inputs=[V tensors (3, H, W)], data_samples=
    RegionDataSample)``, in the order that mmpretrain's data preprocessor
    expects. Use ``collate_fn=dict(type='default_collate')``. Objects without
    area, or not finite, are left out.

    Raises:
        ValueError: If an object's label is negative.
    """

    META_KEYS = ('img_path', 'sample_idx', 'affines', 'skipped')

    def transform(self, results: dict) -> dict:
        """Pack one image; see the class."""
        inputs = [
            to_tensor(np.ascontiguousarray(view.transpose(2, 0, 1)))
            for view in results['views']
        ]
        sample = RegionDataSample(
            metainfo={k: results[k] for k in self.META_KEYS if k in results}
        )
        sample.boxes = torch.from_numpy(results['boxes'])
        sample.rows = torch.from_numpy(results['rows'])
        if 'objects' in results:
            used = list(map(has_area, results['objects']))
            boxes = [
                np.insert(boxes[kept], 0, view, axis=1)  # (M_v, 5)
                for view, (boxes, kept) in enumerate(
                    zip(results['objects'], used, strict=True)
                )
            ]
            # lists in a data element would not move to the GPU with it
            sample.objects = torch.from_numpy(np.concatenate(boxes)).float()
            for key in ('object_labels', 'object_rows'):
                values = zip(results[key], used, strict=True)
                values = np.concatenate(
                    [value[kept] for value, kept in values]
                )
                sample.set_data({key: torch.from_numpy(values)})
            labels = sample.object_labels.numpy()
            if labels.min(initial=0) < 0:
                raise ValueError(
                    f'object_labels of {results.get("img_path")} hold '
                    f'{labels.min()}; pseudo-classes are numbered from 0'
                )
            sample.set_metainfo(
                dict(
                    num_objects=tuple(map(len, boxes)),
                    max_label=int(labels.max(initial=-1)),
                )
            )
        return dict(inputs=inputs, data_samples=sample)


def has_area(boxes: np.ndarray) -> np.ndarray:
    """(M,) bool of (M, 4) boxes that are finite and have an area."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return (sides > 0).all(axis=1) & np.isfinite(boxes).all(axis=1)
