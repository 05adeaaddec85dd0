"""Detection's pipelines: one image never stops a run."""

import pickle
import re

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules
from mmengine.dataset import ConcatDataset
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner.runner import _SlicedDataset

from mmfgl.datasets import LoadImage, UnlabelledImages
from mmfgl.datasets.guarded_pipeline import GuardedPipeline, guard_images
from mmfgl.testing import tiny_coco
from mmfgl.utils.checked_runner import leaf_datasets

PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(128, 96), keep_ratio=True),
    dict(type='PackDetInputs'),
]


@pytest.fixture
def data(tmp_path):
    return tiny_coco(tmp_path / 'data')


@pytest.fixture(autouse=True)
def scope():
    register_all_modules(init_default_scope=False)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def build(data, test_mode=False, pipeline=PIPELINE):
    return CocoDataset(
        data_root=f'{data}/',
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        metainfo=dict(classes=tuple('0123456789')),
        pipeline=pipeline,
        test_mode=test_mode,
        serialize_data=False,  # which collects garbage, half a second each
    )


def spoil(dataset, row, content=b'no image'):
    path = dataset.get_data_info(row)['img_path']
    with open(path, 'wb') as file:
        file.write(content)
    return path


def test_images_to_mix_have_no_sample(data, caplog):
    """Of Mosaic, say: what is skipped is told, and never ends the run."""
    logger = MMLogger.get_instance('mixed')
    logger.addHandler(caplog.handler)
    dataset = build(data, pipeline=PIPELINE[:2])
    path = spoil(dataset, 0)
    guard_images(dataset, test_mode=False)
    for _ in range(GuardedPipeline.MAX_IN_A_ROW + 9):
        assert dataset.prepare_data(0) is None
        assert dataset.prepare_data(1)['img'] is not None
    texts = [record.message for record in caplog.records]
    texts = [text for text in texts if 'skipped' in text]
    assert f'skipped unreadable image {path}: ' in texts[0]
    assert len(texts) <= 2  # of both handlers
    pipeline = dataset.pipeline
    with pytest.raises(RuntimeError, match='100 images in a row'):
        for _ in range(GuardedPipeline.MAX_IN_A_ROW):
            pipeline(dataset.get_data_info(0))


def test_a_part_of_a_data_set_is_guarded(data):
    """Of num_batch_per_epoch, whose wrapper passes on what is read alone."""
    dataset = build(data)
    guard_images(_SlicedDataset(dataset, 2), test_mode=False)
    assert isinstance(dataset.pipeline, GuardedPipeline)
    assert list(leaf_datasets(_SlicedDataset(dataset, 2))) == [dataset]


def test_sound_images_stay_the_same(data):
    plain, guarded = build(data), build(data)
    guard_images(guarded, test_mode=False)
    guard_images(guarded, test_mode=False)  # once is enough
    assert not isinstance(guarded.pipeline.pipeline, GuardedPipeline)
    guarded = pickle.loads(pickle.dumps(guarded))  # to a spawned worker
    one, two = plain[0], guarded[0]
    assert (one['inputs'] == two['inputs']).all()
    keys = one['data_samples'].metainfo_keys()
    assert keys == two['data_samples'].metainfo_keys()


def test_training_replaces_and_names(data):
    dataset = build(data)
    path = spoil(dataset, 1)
    guard_images(ConcatDataset([dataset]), test_mode=False)
    sample = dataset[1]['data_samples']
    assert sample.img_path != path
    assert sample.skipped[0] == (path, 'no image, or a damaged one')
    assert not sample.unreadable
    assert 'skipped' not in dataset[0]['data_samples']
    for row in range(len(dataset)):
        spoil(dataset, row, b'')
    with pytest.raises(RuntimeError, match='100 images in a row.*is empty'):
        dataset[0]


@pytest.mark.parametrize('strip', [False, True])
def test_testing_puts_a_blank_image_in_its_place(data, strip):
    dataset = build(data, test_mode=True)
    thin = cv2.imencode('.png', np.zeros((1, 4000, 3), np.uint8))[1].tobytes()
    path = spoil(dataset, 1, thin if strip else b'')
    guard_images(dataset, test_mode=True)
    found = dataset[1]
    sample = found['data_samples']
    assert sample.img_path == path and sample.unreadable
    reason = 'error: .*resize' if strip else 'the file is empty'
    ((skipped, seen),) = sample.skipped
    assert skipped == path
    assert re.search(reason, seen)
    assert not found['inputs'].any()
    info = dataset.get_data_info(1)
    assert sample.ori_shape == (info['height'], info['width'])
    assert 'unreadable' not in dataset[0]['data_samples']


def test_other_errors_name_the_image(data):
    def fail(results):
        raise KeyError('mask')

    dataset = build(data, pipeline=[*PIPELINE, fail])
    guard_images(dataset, test_mode=False)
    path = dataset.get_data_info(0)['img_path']
    with pytest.raises(RuntimeError, match=f"{path}: KeyError: 'mask'"):
        dataset[0]


def test_what_is_exchanged(data):
    usual = GuardedPipeline(build(data).pipeline, False).pipeline.transforms
    assert isinstance(usual[0].load, LoadImage)
    own = dict(type='LoadImageFromFile', to_float32=True)
    dataset = build(data, pipeline=[own, *PIPELINE[1:]])
    kept = GuardedPipeline(dataset.pipeline, True)
    assert type(kept.pipeline.transforms[0]) is LoadImageFromFile
    limited = dict(type='mmfgl.LoadImage', max_pixels=10)
    dataset = build(data, pipeline=[limited, *PIPELINE[1:]], test_mode=True)
    guard_images(dataset, test_mode=True)
    ((_, reason),) = dataset[0]['data_samples'].skipped
    assert reason.endswith('more than max_pixels=10')
    with pytest.raises(ValueError, match='max_pixels must be >= 1'):
        LoadImage(max_pixels=0)
    images = UnlabelledImages(data_prefix=dict(img_path=f'{data}/train'))
    plain = images.pipeline
    guard_images(images, test_mode=False)
    assert images.pipeline is plain
