"""From the data loader to the device, for the pretraining."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.models import SelfSupDataPreprocessor

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.registry import MODELS


@MODELS.register_module()
class RegionDataPreprocessor(SelfSupDataPreprocessor):
    """mmpretrain's, with one copy of a batch's regions to the device.

    A batch of B images has up to 3 B tensors of boxes and labels; each copy
    costs a GPU as much as one of them all. Those of a dtype travel as one
    tensor and are views of it there.

    Args:
        non_blocking: Do not wait for the copies; the images come from pinned
            memory if the data loader has ``pin_memory=True``.
        **kwargs: Arguments of
            :class:`mmpretrain.models.SelfSupDataPreprocessor`.
    """

    def __init__(self, non_blocking: bool = True, **kwargs: Any) -> None:
        super().__init__(non_blocking=non_blocking, **kwargs)

    def cast_data(self, data: Any) -> Any:
        """Copy what a data loader returned to the device."""
        if (
            self.device.type != 'cpu'
            and isinstance(data, Sequence)
            and data
            and all(isinstance(item, RegionDataSample) for item in data)
        ):
            return self._cast_samples(data)
        return super().cast_data(data)

    def _cast_samples(
        self, samples: Sequence[RegionDataSample]
    ) -> list[RegionDataSample]:
        """Copy data samples, the tensors of a dtype in one."""
        moved = [sample.new() for sample in samples]
        places = defaultdict(list)
        for index, sample in enumerate(samples):
            for key, tensor in sample.items():
                places[tensor.dtype].append((index, key, tensor))
        for rows in places.values():
            flat = torch.cat([tensor.flatten() for *_, tensor in rows])
            flat = flat.to(self.device, non_blocking=self._non_blocking)
            parts = flat.split([tensor.numel() for *_, tensor in rows])
            for (index, key, tensor), part in zip(rows, parts, strict=True):
                moved[index].set_data({key: part.view(tensor.shape)})
        return moved
