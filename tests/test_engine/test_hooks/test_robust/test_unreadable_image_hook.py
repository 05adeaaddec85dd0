from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import default_collate

from mmfgl.datasets import UnlabelledImages
from mmfgl.engine.hooks import UnreadableImageHook
from mmfgl.testing import region_batch

PIPELINE = [
    dict(type='mmfgl.LoadUnlabelledImage'),
    dict(
        type='mmfgl.RegionViews',
        proposer=dict(type='mmfgl.RandomRegions', num_regions=8),
        view_size=32,
        num_regions=2,
    ),
    dict(type='mmfgl.PackRegionViews'),
]


class Logger:
    def __init__(self):
        self.lines = []

    def warning(self, message):
        self.lines.append(message)

    info = warning


def runner_of(dataset):
    return SimpleNamespace(
        logger=Logger(), train_dataloader=SimpleNamespace(dataset=dataset)
    )


@pytest.fixture
def dataset(tmp_path):
    """Six images, the second and third of which are corrupt."""
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    for index in range(6):
        cv2.imwrite(str(tmp_path / f'{index}.jpg'), image)
    (tmp_path / '1.jpg').write_bytes(b'')
    (tmp_path / '2.jpg').write_bytes(b'no image')
    return UnlabelledImages(str(tmp_path), pipeline=PIPELINE)


def epoch(hook, runner, batch_size=3):
    dataset = runner.train_dataloader.dataset
    for start in range(0, len(dataset), batch_size):
        items = [dataset[start + i] for i in range(batch_size)]
        hook.after_train_iter(
            runner, 0, data_batch=default_collate(items), outputs={}
        )


def test_each_file_is_reported_once(dataset, tmp_path):
    hook, runner = UnreadableImageHook(), runner_of(dataset)
    for _ in range(3):
        epoch(hook, runner)
    broken = [str(tmp_path / name) for name in ('1.jpg', '2.jpg')]
    assert runner.logger.lines == [
        f'skipped unreadable image {path}' for path in broken
    ]
    hook.after_train(runner)
    assert runner.logger.lines[2] == (
        '2 unreadable images were skipped and replaced by their neighbours: '
        + ', '.join(broken)
    )


@pytest.mark.parametrize(('max_share', 'stops'), [(0.2, True), (0.4, False)])
def test_too_many(dataset, max_share, stops):
    hook, runner = UnreadableImageHook(max_share), runner_of(dataset)
    if not stops:
        epoch(hook, runner)
        return
    with pytest.raises(RuntimeError, match='2 of 6 images cannot be read'):
        epoch(hook, runner)


def test_long_list_is_cut(dataset):
    hook, runner = UnreadableImageHook(), runner_of(dataset)
    hook.files = {f'{i:02}.jpg' for i in range(12)}
    hook.after_train(runner)
    (line,) = runner.logger.lines
    assert line.startswith('12 unreadable images')
    assert line.endswith('08.jpg, 09.jpg ...')


def test_all_readable():
    hook, runner = UnreadableImageHook(), runner_of([None] * 2)
    hook.after_train_iter(runner, 0, data_batch=region_batch(), outputs={})
    hook.after_train(runner)
    assert runner.logger.lines == [
        'all images that were asked for were readable'
    ]
