import torch

from mmfgl.models.selfsup import RegionDataPreprocessor
from mmfgl.testing import region_batch
from mmfgl.testing.pretend_gpu import PretendGPU, on_gpu


def test_same_values_in_few_copies():
    options = dict(num_images=3, num_objects=2, num_labels=4)
    preprocess = RegionDataPreprocessor(mean=[1.0] * 3, std=[2.0] * 3)
    expected = preprocess(region_batch(**options))
    blocking = RegionDataPreprocessor(
        mean=[1.0] * 3, std=[2.0] * 3, non_blocking=False
    )
    with PretendGPU() as gpu:
        preprocess.to('cuda')  # with mean and std
        gpu.clear()
        found = preprocess(region_batch(**options))
        assert not gpu.uploads and not gpu.waits
        blocking.to('cuda')
        gpu.clear()
        blocking(region_batch(**options))
        # two views, floats and labels
        assert sum(gpu.uploads.values()) == 4
    assert all(map(on_gpu, found['inputs']))
    for one, other in zip(
        found['data_samples'], expected['data_samples'], strict=True
    ):
        assert set(one.keys()) == set(other.keys())
        assert one.num_objects == other.num_objects
        for key, value in one.items():
            assert on_gpu(value) and torch.equal(value, other.get(key))
            assert value.dtype == other.get(key).dtype


def test_without_regions():
    preprocess = RegionDataPreprocessor()
    with PretendGPU():
        batch = preprocess.to('cuda')(region_batch(num_regions=0))
    assert batch['data_samples'][0].boxes.shape == (2, 0, 4)
