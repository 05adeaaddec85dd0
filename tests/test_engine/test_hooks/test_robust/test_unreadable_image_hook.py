from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from mmengine.dataset import default_collate

from mmfgl.datasets import UnlabelledImages
from mmfgl.engine.hooks import UnreadableImageHook

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


@pytest.fixture
def runner(tmp_path):
    """A runner on six images, the second and third of which are corrupt."""
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    for index in range(6):
        cv2.imwrite(str(tmp_path / f'{index}.jpg'), image)
    (tmp_path / '1.jpg').write_bytes(b'')
    (tmp_path / '2.jpg').write_bytes(b'no image')
    prefix = dict(img_path=str(tmp_path))
    dataset = UnlabelledImages(data_prefix=prefix, pipeline=PIPELINE)
    lines = []
    return SimpleNamespace(
        logger=SimpleNamespace(warning=lines.append, info=lines.append),
        lines=lines,
        train_dataloader=SimpleNamespace(dataset=dataset),
    )


def epoch(hook, runner, indices=range(6), batch_size=3):
    items = [runner.train_dataloader.dataset[i] for i in indices]
    for start in range(0, len(items), batch_size):
        batch = default_collate(items[start : start + batch_size])
        hook.after_train_iter(runner, 0, data_batch=batch, outputs={})


def test_each_file_is_reported_once(runner, tmp_path):
    hook = UnreadableImageHook()
    for _ in range(3):
        epoch(hook, runner)
    hook.after_train(runner)
    broken = [str(tmp_path / name) for name in ('1.jpg', '2.jpg')]
    assert runner.lines == [
        *(f'skipped unreadable image {path}' for path in broken),
        '2 unreadable images were skipped and replaced by their neighbours: '
        + ', '.join(broken),
    ]


def test_too_many(runner):
    epoch(UnreadableImageHook(0.4), runner)
    with pytest.raises(RuntimeError, match='2 of 6 images cannot be read'):
        epoch(UnreadableImageHook(0.2), runner)


def test_long_list_is_cut_and_names_are_printable(runner):
    hook = UnreadableImageHook()
    hook.files = {f'{i:02}\udce9.jpg' for i in range(12)}
    hook.after_train(runner)
    (line,) = runner.lines
    assert line.startswith('12 unreadable images')
    assert line.endswith('08\\udce9.jpg, 09\\udce9.jpg ...')


def test_all_readable(runner):
    hook = UnreadableImageHook()
    epoch(hook, runner, [3, 4, 5])
    hook.after_train(runner)
    assert runner.lines == ['all images that were asked for were readable']
