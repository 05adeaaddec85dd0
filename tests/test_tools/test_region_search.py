from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from region_search.backbone_descriptors import (
    BackboneDescriber,
    describe_with_backbone,
)
from region_search.colour_descriptors import describe_colours

from mmfgl.registry import MODELS
from mmfgl.testing.models import tiny_backbone_cfg

CHANNELS = 32 + 64  # of the tiny backbone's last two levels


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A config, its weights and three images."""
    folder = tmp_path_factory.mktemp('describer')
    model = dict(
        backbone=tiny_backbone_cfg(),
        data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
    )
    config = folder / 'config.py'
    Config(dict(model=model, default_scope='mmdet')).dump(config)
    detector = dict(model, backbone=dict(tiny_backbone_cfg(), type='ResNet'))
    pretraining = dict(type='mmfgl.ReToD', detector=detector)
    Config(dict(model=pretraining, default_scope='mmpretrain')).dump(
        folder / 'pretraining.py'
    )
    torch.manual_seed(0)
    state = MODELS.build(tiny_backbone_cfg()).state_dict()
    state = {f'backbone.{key}': value for key, value in state.items()}
    weights = folder / 'weights.pth'
    torch.save(dict(state_dict=state), weights)
    images = []
    for index in range(3):
        rng = np.random.default_rng(0)  # alike up to brightness
        images.append(str(folder / f'{index}.png'))
        # the left half is flat, the right half is noise
        img = np.full((60, 80, 3), 90 + index, np.uint8)
        img[:, 40:] = rng.integers(0, 255, (60, 40, 3))
        cv2.imwrite(images[-1], img)
    return str(config), str(weights), images


def test_features_of_regions(files):
    describe = BackboneDescriber(*files[:2])
    img = cv2.imread(files[2][0])
    boxes = np.array(
        [[2, 2, 20, 20], [45, 5, 75, 50], [-5, 50, 90, 70]], np.float32
    )
    features = describe(img, boxes)
    assert features.shape == (3, CHANNELS)
    assert np.isfinite(features).all()
    np.testing.assert_allclose(
        features[1], describe(img, boxes[1:2])[0], rtol=1e-3, atol=1e-4
    )


def test_config_of_a_pretraining(files):
    boxes = np.array([[2, 2, 20, 20], [45, 5, 75, 50]], np.float32)
    img = cv2.imread(files[2][0])
    pretraining = str(Path(files[0]).with_name('pretraining.py'))
    np.testing.assert_array_equal(
        BackboneDescriber(*files[:2])(img, boxes),
        BackboneDescriber(pretraining, files[1])(img, boxes),
    )


def test_like_regions_are_close(files):
    boxes = np.array([[2, 2, 30, 30], [48, 5, 75, 50]], np.float32)
    empty = np.zeros((0, 4), np.float32)
    found = [
        SimpleNamespace(boxes=b, descriptors=None)
        for b in (boxes, empty, boxes)
    ]
    describe = BackboneDescriber(*files[:2])
    progress = describe_with_backbone(files[2], found, describe)
    assert len(list(progress)) == 3
    assert len(found[1].descriptors) == 0
    first, last = found[0].descriptors, found[2].descriptors
    np.testing.assert_allclose(
        np.linalg.norm(first, axis=1), 1, rtol=1e-5, atol=1e-5
    )
    for row in range(2):
        same, other = first[row] @ last[row], first[row] @ last[1 - row]
        assert same > 0.5 > other


def test_weights_of_another_model(files, tmp_path):
    path = tmp_path / 'other.pth'
    torch.save(dict(state_dict={'neck.weight': torch.zeros(1)}), path)
    with pytest.raises(ValueError, match='lacks .* the checkpoint that the'):
        BackboneDescriber(files[0], str(path))


def test_colour_descriptors():
    rng = np.random.default_rng(0)
    img = np.zeros((60, 120, 3), np.uint8)
    img[:, :60:4] = 255  # stripes down, then stripes across
    img[::4, 60:] = 255
    boxes = np.array(
        [[0, 0, 40, 40], [10, 10, 50, 50], [70, 10, 110, 50]], np.float32
    )
    rows = describe_colours(img, boxes)
    assert rows.shape == (3, 168)
    assert rows.dtype == np.float32
    near = np.linalg.norm(rows[0] - rows[1])
    assert near < 0.5 * np.linalg.norm(rows[0] - rows[2])
    assert describe_colours(img, boxes[:0]).shape == (0, 168)
    edge = np.array([[119.5, 59.5, 120, 60], [130, 70, 140, 80]])
    noise = rng.integers(0, 256, (60, 120, 3), np.uint8)
    assert np.isfinite(describe_colours(noise, edge)).all()
