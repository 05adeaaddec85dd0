"""Packing of region views for the model."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform, to_tensor

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackRegionViews(BaseTransform):
    """Pack views and regions for :class:`ReToD`.

    Returns ``dict(inputs=[V tensors (3, H, W)], data_samples=
    RegionDataSample)``, in the order that mmpretrain's data preprocessor
    expects. Use ``collate_fn=dict(type='default_collate')``.

    Args:
        meta_keys: Keys kept as meta information.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            'img_path',
            'sample_idx',
            'affines',
            'skipped',
        ),
    ) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack one image; see the class.

        Args:
            results: Output of :class:`RegionViews`.

        Returns:
            Dict of ``inputs`` and ``data_samples``.
        """
        inputs = [
            to_tensor(np.ascontiguousarray(view.transpose(2, 0, 1)))
            for view in results['views']
        ]
        sample = RegionDataSample(
            metainfo={k: results[k] for k in self.meta_keys if k in results}
        )
        sample.boxes = torch.from_numpy(results['boxes'])
        if 'objects' in results:
            sample.objects, sample.object_labels = self._pack_objects(results)
        return dict(inputs=inputs, data_samples=sample)

    @staticmethod
    def _pack_objects(results: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, 5) view index and box, (M,) labels.

        Lists in a data element would not move to the GPU with it.
        """
        rows = [
            np.insert(boxes, 0, view, axis=1)
            for view, boxes in enumerate(results['objects'])
        ]
        labels = np.concatenate(results['object_labels'])
        objects = np.concatenate(rows).astype(np.float32)
        return torch.from_numpy(objects), torch.from_numpy(labels)
