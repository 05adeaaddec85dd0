"""Views and objects of a batch, packed, collated and preprocessed."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.models import SelfSupDataPreprocessor

from mmfgl.datasets import PackRegionViews, RegionDataSample
from tests.test_datasets.cut_views import cut, with_objects


@pytest.mark.parametrize('num_views', [1, 2])
def test_pack_collate_and_preprocess(num_views):
    raw = [
        cut(with_objects(proposed=count, num_views=num_views))
        for count in (0, 50, 50)
    ]
    extra = dict(skipped=['bad.jpg'], unknown=1)
    batch = [PackRegionViews()(results | extra) for results in raw]
    assert list(batch[0]) == ['inputs', 'data_samples']
    preprocess = SelfSupDataPreprocessor(bgr_to_rgb=True)
    data = preprocess(default_collate(batch), training=True)
    assert len(data['inputs']) == num_views
    for images, *views in zip(data['inputs'], *(r['views'] for r in raw)):
        rgb = np.stack(views)[..., ::-1].transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images, rgb)
    for sample, results in zip(data['data_samples'], raw, strict=True):
        assert isinstance(sample, RegionDataSample)
        assert (sample.img_path, sample.skipped) == ('x.jpg', ['bad.jpg'])
        assert 'unknown' not in sample
        assert np.array_equal(sample.affines, results['affines'])
        for key in ('boxes', 'objects'):
            assert sample.get(key).dtype == torch.float32
            assert sample.to(torch.float64).get(key).dtype == torch.float64
        assert sample.object_labels.dtype == torch.int64
        np.testing.assert_array_equal(sample.boxes, results['boxes'])
        rows = [
            np.insert(boxes, 0, view, axis=1)
            for view, boxes in enumerate(results['objects'])
        ]
        np.testing.assert_array_equal(sample.objects, np.concatenate(rows))
        labels = np.concatenate(results['object_labels'])
        np.testing.assert_array_equal(sample.object_labels, labels)
        assert sample.num_objects == tuple(map(len, results['objects']))
        assert sample.max_label == labels.max(initial=-1)
        np.testing.assert_array_equal(sample.object_rows, 100 + labels)
        np.testing.assert_array_equal(sample.rows, results['rows'])
    counts = [len(sample.objects) for sample in data['data_samples']]
    assert counts[0] == 0 < min(counts[1:])


def test_labels_are_checked_when_packed():
    results = dict(
        views=[np.zeros((8, 8, 3), np.uint8)],
        boxes=np.zeros((1, 0, 4), np.float32),
        rows=np.zeros((1, 0), np.int64),
        objects=[np.array([[0, 0, 4, 4]], np.float32)],
        object_labels=[np.array([-1])],
        object_rows=[np.array([0])],
        img_path='a.jpg',
    )
    with pytest.raises(ValueError, match=r'a\.jpg hold -1'):
        PackRegionViews()(results)
