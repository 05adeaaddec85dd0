"""Region teachers of timm and of configs, with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmfgl.models.selfsup import RegionTeacher
from mmfgl.registry import MODELS
from mmfgl.testing.models import tiny_backbone_cfg
from mmfgl.testing.vit import tiny_vit_cfg

timm = pytest.importorskip('timm')
RGB = dict(mean=[100.0, 110, 120], std=[50.0, 60, 70])
BOXES = np.array(
    [[2, 2, 30, 30], [48, 5, 75, 50], [-5, 50, 90, 70]], np.float32
)


@pytest.fixture(scope='module')
def image():
    """The left half is flat, the right half is noise."""
    img = np.full((60, 80, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    img[:, 40:] = rng.integers(0, 255, (60, 40, 3))
    return img


def timm_weights(folder, name, **changes):
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False)
    path = folder / f'{name}.pth'
    torch.save({**model.state_dict(), **changes}, path)
    return str(path)


def config_weights(folder, model, scope, **parts):
    """A config file and a checkpoint of its backbone."""
    Config(dict(model=model, default_scope=scope, **parts)).dump(
        folder / 'config.py'
    )
    backbone = dict(model.get('detector', model)['backbone'])
    if '.' not in backbone['type']:
        backbone['type'] = f'mmdet.{backbone["type"]}'
    torch.manual_seed(0)
    state = MODELS.build(backbone).state_dict()
    state = {f'backbone.{key}': value for key, value in state.items()}
    meta = dict(licence='CC0-1.0')
    torch.save(dict(state_dict=state, meta=meta), folder / 'w.pth')
    return str(folder / 'config.py'), str(folder / 'w.pth')


def check_embeddings(teacher, image):
    rows = teacher.embed(image, BOXES)
    assert rows.shape == (3, teacher.channels) and rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-4)
    # a region alone, and one that is mirrored with its image
    alone = teacher.embed(image, BOXES[1:2])
    np.testing.assert_allclose(alone[0], rows[1], atol=1e-4)
    mirrored = BOXES[1:2].copy()
    mirrored[:, [0, 2]] = 80 - mirrored[:, [2, 0]]
    mirrored = teacher.embed(np.ascontiguousarray(image[:, ::-1]), mirrored)
    np.testing.assert_allclose(mirrored, alone, atol=1e-4)
    assert np.abs(rows[0] - rows[1]).max() > 1e-3
    assert teacher.embed(image, BOXES[:0]).shape == (0, teacher.channels)


def test_transformer_of_timm(tmp_path, image):
    """DINOv2's kind: a class token beside the map, crops of another size."""
    extra = dict(mask_token=torch.zeros(1))  # of its published checkpoints
    weights = timm_weights(tmp_path, 'test_vit', **extra)
    teacher = RegionTeacher('test_vit', weights, 48, licence='mine')
    assert teacher.channels == 2 * 64
    check_embeddings(teacher, image)
    assert teacher.meta['licence'] == 'mine'
    assert len(teacher.meta['sha256']) == 64
    with pytest.raises(ValueError, match='crops of 40 pixels.*teacher-size'):
        RegionTeacher('test_vit', weights, 40)


def test_backbone_of_timm_without_its_head(tmp_path, image):
    """As the converter of EfficientNet-Lite writes it."""
    weights = timm_weights(tmp_path, 'test_efficientnet')
    head = ('conv_head.', 'bn2.', 'classifier.')
    state = {
        f'backbone.timm_model.{key}': value
        for key, value in torch.load(weights, weights_only=True).items()
        if not key.startswith(head)
    }
    meta = dict(licence='Apache-2.0')
    torch.save(dict(state_dict=state, meta=meta), tmp_path / 'w.pth')
    teacher = RegionTeacher('test_efficientnet', str(tmp_path / 'w.pth'))
    check_embeddings(teacher, image)
    assert teacher.meta['licence'] == 'Apache-2.0'
    whole = RegionTeacher('test_efficientnet', weights)
    np.testing.assert_allclose(
        teacher.embed(image, BOXES), whole.embed(image, BOXES), atol=1e-5
    )


@pytest.mark.parametrize('kind', ['detector', 'pretraining', 'mmpretrain'])
def test_config(tmp_path, image, kind):
    flip = dict(RGB, bgr_to_rgb=True)
    model = dict(backbone=tiny_backbone_cfg(), data_preprocessor=flip)
    parts = dict(scope='mmdet')
    if kind == 'pretraining':
        backbone = dict(tiny_backbone_cfg(), type='ResNet')
        model = dict(detector=dict(model, backbone=backbone))
        parts = dict(scope='mmpretrain')
    elif kind == 'mmpretrain':
        vit = dict(tiny_vit_cfg()['backbone'], out_type='cls_token')
        model = dict(backbone=vit)
        parts = dict(scope='mmpretrain')
        parts['data_preprocessor'] = dict(RGB, to_rgb=True)
    teacher = RegionTeacher(*config_weights(tmp_path, model, **parts))
    check_embeddings(teacher, image)
    expected = dict(RGB, order='RGB', size=64, contexts=[1.0, 1.5])
    assert teacher.meta['preprocessing'] == dict(expected, mirrored=True)
    assert teacher.meta['licence'] == 'CC0-1.0'


def test_errors(tmp_path):
    weights = timm_weights(tmp_path, 'test_vit')
    with pytest.raises(FileNotFoundError, match='absent.pth.*nothing is down'):
        RegionTeacher('test_vit', 'absent.pth')
    with pytest.raises(ValueError, match='neither a config.*test_vit'):
        RegionTeacher('test_vitt', weights)
    with pytest.raises(FileNotFoundError, match='config.*absent.py'):
        RegionTeacher('absent.py', weights)
    with pytest.raises(ValueError, match='does not fill the teacher'):
        RegionTeacher('test_efficientnet', weights)
    config = tmp_path / 'c.py'
    config.write_text('model = dict(backbone=dict(type="x"))')
    with pytest.raises(ValueError, match=r'no data_preprocessor\.mean'):
        RegionTeacher(str(config), weights)
    (tmp_path / 'x.pth').write_bytes(b'no weights')
    with pytest.raises(ValueError, match='no checkpoint but a text'):
        RegionTeacher('test_vit', str(tmp_path / 'x.pth'))


class Touch:
    """Unpickling makes an empty file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_of_a_stranger(tmp_path):
    weights, mark = timm_weights(tmp_path, 'test_vit'), tmp_path / 'code_ran'
    content = torch.load(weights, weights_only=True)
    torch.save(dict(state_dict=content, extra=Touch(mark)), weights)
    with pytest.raises(ValueError, match='--trust-checkpoint'):
        RegionTeacher('test_vit', weights, 48)
    assert not mark.exists()
    RegionTeacher('test_vit', weights, 48, trust=True)
    assert mark.exists()
