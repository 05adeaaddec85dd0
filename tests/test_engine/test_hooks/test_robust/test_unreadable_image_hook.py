from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets.transforms import PackDetInputs
from mmdet.engine.hooks import PipelineSwitchHook
from mmdet.structures import DetDataSample
from mmengine.dataset import BaseDataset, default_collate, pseudo_collate
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader

from mmfgl.datasets import UnlabelledImages
from mmfgl.engine.hooks import UnreadableImageHook
from mmfgl.engine.hooks.robust import unreadable_image_hook as module

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


def fake_runner(dataset, **others):
    lines = []
    return SimpleNamespace(
        logger=SimpleNamespace(warning=lines.append, info=lines.append),
        lines=lines,
        iter=0,
        hooks=[],
        train_dataloader=SimpleNamespace(dataset=dataset),
        **others,
    )


@pytest.fixture
def runner(tmp_path):
    """A runner on six images, the second and third of which are corrupt."""
    image = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    for index in range(6):
        cv2.imwrite(str(tmp_path / f'{index}.jpg'), image)
    (tmp_path / '1.jpg').write_bytes(b'')
    (tmp_path / '2.jpg').write_bytes(b'no image')
    prefix = dict(img_path=str(tmp_path))
    return fake_runner(UnlabelledImages(data_prefix=prefix, pipeline=PIPELINE))


def epoch(hook, runner, indices=range(6), batch_size=3):
    items = [runner.train_dataloader.dataset[i] for i in indices]
    for start in range(0, len(items), batch_size):
        batch = default_collate(items[start : start + batch_size])
        hook.after_train_iter(runner, 0, data_batch=batch, outputs={})
        runner.iter += 1


def test_each_file_is_reported_once(runner, tmp_path):
    hook = UnreadableImageHook()
    for _ in range(3):
        epoch(hook, runner)
    hook.after_train(runner)
    broken = [str(tmp_path / name) for name in ('1.jpg', '2.jpg')]
    reasons = 'the file is empty', 'no image, or a damaged one'
    assert runner.lines == [
        *(
            f'skipped unreadable image {path}: {reason}'
            for path, reason in zip(broken, reasons, strict=True)
        ),
        '2 unreadable images were skipped and replaced by others: '
        + ', '.join(broken),
    ]


def test_too_many(runner):
    epoch(UnreadableImageHook(0.4), runner)
    with pytest.raises(RuntimeError, match='2 of 6 images cannot be read'):
        epoch(UnreadableImageHook(0.2), runner)


def test_ranks_stop_together_at_fixed_points(runner, monkeypatch):
    """This rank has seen no bad file, another one five."""
    other = {f'{i}.png': 'gone' for i in range(5)}
    calls = []

    def add(value):
        calls.append(runner.iter)
        value += len(other)

    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    monkeypatch.setattr(module, 'all_reduce', add)
    monkeypatch.setattr(module, 'all_gather_object', lambda own: [own, other])
    hook = UnreadableImageHook()
    with pytest.raises(RuntimeError, match='5 of 6 images cannot be read'):
        for _ in range(60):
            epoch(hook, runner, [3, 4, 5])
    assert calls == [UnreadableImageHook.INTERVAL - 1]
    assert runner.lines[0] == 'skipped unreadable image 0.png: gone'


def test_long_list_is_cut_and_names_are_printable(runner):
    hook = UnreadableImageHook()
    hook.trained.files = {f'{i:02}\udce9.jpg': 'gone' for i in range(12)}
    hook.after_train(runner)
    (line,) = runner.lines
    assert line.startswith('12 unreadable images')
    assert line.endswith('08\\udce9.jpg, 09\\udce9.jpg ...')


class EagerIterator:
    """As mmengine 0.10.7's, which starts workers when it is made."""

    def __init__(self, dataloader):
        self.batches = iter(dataloader)


def test_workers_that_have_started_are_guarded_too(tmp_path):
    cv2.imwrite(str(tmp_path / '1.jpg'), np.zeros((40, 40, 3), np.uint8))
    dataset = BaseDataset(
        pipeline=[LoadImageFromFile(), PackDetInputs(meta_keys=['img_path'])],
        serialize_data=False,
        lazy_init=True,
    )
    names = ('0.jpg', '1.jpg')  # the first is not there
    dataset.data_list = [dict(img_path=str(tmp_path / n)) for n in names]
    dataset._fully_initialized = True
    loader = DataLoader(dataset, 1, num_workers=1, collate_fn=pseudo_collate)
    loop = SimpleNamespace(dataloader_iterator=EagerIterator(loader))
    runner = fake_runner(dataset, train_loop=loop)
    runner.train_dataloader = loader
    UnreadableImageHook().before_train(runner)
    for batch in loop.dataloader_iterator.batches:
        (sample,) = batch['data_samples']
        assert sample.img_path == str(tmp_path / '1.jpg')
    assert UnreadableImageHook.priority == 'HIGHEST'  # ExactResumeHook's: next


def test_all_readable(runner):
    hook = UnreadableImageHook()
    epoch(hook, runner, [3, 4, 5])
    hook.after_train(runner)
    assert runner.lines == ['all images that were asked for were readable']


class Counts(BaseMetric):
    """Number of detections of each image."""

    def process(self, data_batch, data_samples):
        self.results += [
            len(s['pred_instances']['bboxes']) for s in data_samples
        ]

    def compute_metrics(self, results):
        return dict(counts=results)


@pytest.mark.parametrize('kind', ['val', 'test'])
def test_unreadable_images_have_no_detections(kind):
    dataset = SimpleNamespace(pipeline=lambda info: info, __len__=lambda: 3)
    loader = type('Loader', (), dict(dataset=[0] * 3))()
    parts = {f'{kind}_dataloader': loader, f'{kind}_evaluator': None}
    evaluator = Evaluator(Counts())
    parts[f'{kind}_evaluator'] = evaluator
    runner = fake_runner(dataset, **parts)
    samples = []
    for index in range(3):
        sample = DetDataSample(metainfo=dict(img_path=f'{index}.jpg'))
        sample.pred_instances = InstanceData(bboxes=torch.ones(4, 4))
        samples.append(sample)
    bad = dict(skipped=[('1.jpg', 'gone')], unreadable=True)
    samples[1].set_metainfo(bad)
    hook = UnreadableImageHook()
    for _ in range(2):  # every validation counts anew
        getattr(hook, f'before_{kind}')(runner)
        evaluator.process(data_samples=samples, data_batch={})
        batch = dict(data_samples=samples)
        getattr(hook, f'after_{kind}_iter')(runner, 0, batch, samples)
        assert evaluator.evaluate(3) == dict(counts=[4, 0, 4])
        getattr(hook, f'after_{kind}_epoch')(runner, {})
    line = '1 unreadable images were evaluated as images without detections: '
    first = 'skipped unreadable image 1.jpg: gone'
    assert runner.lines == [first, f'{line}1.jpg'] * 2
    hook.max_share = 0.2
    getattr(hook, f'before_{kind}')(runner)
    getattr(hook, f'after_{kind}_iter')(runner, 0, batch, samples)
    with pytest.raises(RuntimeError, match='1 of 3 images cannot be read'):
        getattr(hook, f'after_{kind}_epoch')(runner, {})


def test_a_pipeline_that_comes_later_is_guarded_too(runner, tmp_path):
    later = [
        dict(type='mmcv.LoadImageFromFile'),
        dict(type='mmdet.PackDetInputs', meta_keys=['img_path']),
    ]
    switch = PipelineSwitchHook(switch_epoch=1, switch_pipeline=later)
    runner.hooks, runner.epoch = [switch], 1
    runner.train_loop = SimpleNamespace()
    runner.train_dataloader.num_workers = 0
    UnreadableImageHook().before_train(runner)
    switch.before_train_epoch(runner)
    pipeline = runner.train_dataloader.dataset.pipeline
    assert pipeline(dict(img_path=str(tmp_path / '1.jpg'))) is None
    found = pipeline(dict(img_path=str(tmp_path / '0.jpg')))
    assert found['data_samples'].skipped[0][0].endswith('1.jpg')
