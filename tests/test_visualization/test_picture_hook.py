from argparse import Namespace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.structures import InstanceData

from mmfgl.registry import HOOKS
from mmfgl.visualization import show_predictions

BOXES = [[10, 10, 40, 40], [11, 10, 41, 40], [60, 5, 90, 45]]


@pytest.fixture(scope='module')
def visualizer():
    return DetLocalVisualizer.get_instance('pictures')


def sample_of(path, number=0, label=0, size=(50, 100)):
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode('.png', np.full((*size, 3), 90, np.uint8))[1].tofile(path)
    sample = DetDataSample(metainfo=dict(img_path=str(path), img_id=number))
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(BOXES).float(),
        scores=torch.tensor([0.9, 0.8, 0.4]),
        labels=torch.tensor([label, label + 1, label]),
    )
    return sample


@pytest.fixture
def draw(tmp_path, visualizer):
    """Draw samples with a hook; return the names of the pictures."""

    def draw(samples, classes=3, prefixes=('data/',), **options):
        options = dict(draw=True, test_out_dir='vis') | options
        hook = HOOKS.build(dict(type='mmfgl.PictureHook', **options))
        meta = dict(classes=[f'c{i}' for i in range(classes)], palette=COCO)
        visualizer.dataset_meta = meta
        parts = [
            SimpleNamespace(data_prefix=dict(img=str(tmp_path / prefix)))
            for prefix in prefixes
        ]
        dataset = SimpleNamespace(datasets=parts)
        runner = SimpleNamespace(
            visualizer=visualizer,
            work_dir=str(tmp_path),
            timestamp='now',
            logger=MMLogger.get_instance('pictures'),
            test_dataloader=SimpleNamespace(dataset=dataset),
        )
        hook.before_test_epoch(runner)
        for sample in samples:
            hook.after_test_iter(runner, 0, {}, [sample])
        out = tmp_path / 'now/vis'
        files = sorted(out.rglob('*')) if out.exists() else []
        return [str(f.relative_to(out)) for f in files if f.is_file()]

    return draw


COCO = [(220, 20, 60)] * 80


def test_one_picture_an_image(draw, tmp_path):
    data = tmp_path / 'data'
    paths = [data / 'a/1.jpg', data / 'b/1.jpg', data / '1.jpg']
    samples = [sample_of(path, i) for i, path in enumerate(paths)]
    assert draw(samples) == ['1.jpg', 'a/1.jpg', 'b/1.jpg']


def test_images_of_several_folders(draw, tmp_path):
    paths = [tmp_path / name for name in ('x/1.jpg', 'y/1.jpg', 'other/1.jpg')]
    samples = [sample_of(path) for path in paths]
    found = draw(samples[:2], prefixes=('x/', 'y/'))
    assert found == ['x/1.jpg', 'y/1.jpg']
    # a file list may name images beside the data set's folder
    found = draw(samples, prefixes=('x/',))
    assert len(found) == 5 and any(f.endswith('other/1.jpg') for f in found)


def test_an_image_that_is_listed_twice(draw, tmp_path):
    samples = [sample_of(tmp_path / 'data/1.jpg', i) for i in (7, 8)]
    assert draw(samples) == ['1.jpg', '1_id8.jpg']


def test_a_name_that_is_no_utf8(draw, tmp_path):
    """Of which OpenCV dies."""
    names = draw([sample_of(tmp_path / 'data' / 'caf\udce9.png')])
    assert names == ['caf\udce9.png']


@pytest.mark.parametrize('name', ['1.xyz', 'no_ending'])
def test_any_ending(draw, tmp_path, name):
    assert draw([sample_of(tmp_path / 'data' / name)]) == [f'{name}.png']


def test_validation_draws_what_was_read(tmp_path, visualizer):
    samples = [sample_of(tmp_path / name) for name in ('0.png', 'empty.png')]
    deep = cv2.imencode('.png', np.full((50, 100), 4080, np.uint16))[1]
    (tmp_path / '0.png').write_bytes(deep.tobytes())
    (tmp_path / 'empty.png').write_bytes(b'')
    hook = HOOKS.build(dict(type='mmfgl.PictureHook', draw=True, interval=2))
    drawn, warnings = [], []
    runner = SimpleNamespace(
        iter=10,
        visualizer=SimpleNamespace(
            add_datasample=lambda name, image, **kwargs: drawn.append(
                (name, image.max(), kwargs['step'])
            )
        ),
        logger=SimpleNamespace(warning=warnings.append),
    )
    for index in range(4):
        hook.after_val_iter(runner, index, {}, [samples[index == 2]])
    assert drawn == [('val_img', 255, 10)]
    assert len(warnings) == 1 and 'empty.png: the file is empty' in warnings[0]
    HOOKS.build(dict(type='mmfgl.PictureHook')).after_val_iter(
        runner, 0, {}, samples
    )
    assert len(drawn) == 1


def test_a_file_without_image_gets_no_picture(draw, tmp_path):
    empty = tmp_path / 'data/empty.jpg'
    samples = [sample_of(tmp_path / 'data/1.jpg'), sample_of(empty)]
    empty.write_bytes(b'')
    assert draw(samples) == ['1.jpg']
    assert draw(samples[:1], draw=False) == ['1.jpg']  # of before


@pytest.mark.parametrize('classes', [80, 81, 300])
def test_any_number_of_classes(draw, tmp_path, visualizer, classes):
    path = tmp_path / 'data/1.jpg'
    assert draw([sample_of(path, label=classes - 2)], classes) == ['1.jpg']
    palette = visualizer.dataset_meta['palette']
    assert palette == (COCO if classes <= 80 else 'random')


@pytest.mark.parametrize('size', [(1, 200), (300, 1)])
def test_thin_images(draw, tmp_path, size):
    assert draw([sample_of(tmp_path / 'data/1.png', size=size)]) == ['1.png']


def test_look_alikes_do_not_stack(tmp_path):
    sample = sample_of(tmp_path / '1.jpg')
    build = dict(type='mmfgl.PictureHook')
    plain = HOOKS.build(build)
    assert plain.without_duplicates(sample) is sample
    hook = HOOKS.build(dict(build, nms_iou=0.5))
    shown = hook.without_duplicates(sample).pred_instances
    torch.testing.assert_close(shown.scores, torch.tensor([0.9, 0.4]))
    # what is evaluated stays
    assert len(sample.pred_instances) == 3
    sample.pred_instances = sample.pred_instances[:0]
    assert hook.without_duplicates(sample) is sample
    with pytest.raises(ValueError, match='nms_iou'):
        HOOKS.build(dict(build, nms_iou=0))


@pytest.mark.parametrize('given', [None, 'DetVisualizationHook'])
def test_configs_without_our_hook(given):
    cfg = dict(default_hooks=dict(visualization=dict(type=given, score_thr=1)))
    cfg = Config(cfg if given else dict())
    args = Namespace(show=False, show_dir='vis', wait_time=1)
    show_predictions(cfg, args)
    hook = cfg.default_hooks.visualization
    assert hook.type == 'mmfgl.PictureHook' and hook.test_out_dir == 'vis'
    assert hook.draw and hook.get('score_thr', 1) == 1
    assert cfg.visualizer.type == 'DetLocalVisualizer'
    cfg.default_hooks.visualization.type = 'Other'
    show_predictions(cfg, args)
    assert cfg.default_hooks.visualization.type == 'Other'
