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
    expects. Use ``collate_fn=dict(type='default_collate')``.
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
            # lists in a data element would not move to the GPU with it
            rows = [
                np.insert(boxes, 0, view, axis=1)  # (M_v, 5)
                for view, boxes in enumerate(results['objects'])
            ]
            sample.objects = torch.from_numpy(np.concatenate(rows)).float()
            for key in ('object_labels', 'object_rows'):
                values = np.concatenate(results[key])
                sample.set_data({key: torch.from_numpy(values)})
        return dict(inputs=inputs, data_samples=sample)
