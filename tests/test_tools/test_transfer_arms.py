"""Configs, region searches and data of the arms of transfer.py."""

import json
from collections import Counter
from pathlib import Path

import pytest
from lib import transfer_arms as arms
from lib.coco_data import DataSet, label_subset
from mmengine.config import Config

from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import parts_of
from tests.test_tools.transfer_arguments import arguments
from tools.benchmarks import transfer


@pytest.mark.parametrize('init', ['random', 'imagenet'])
@pytest.mark.parametrize('detector', ['faster-rcnn', 'fgl'])
@pytest.mark.parametrize('arm', ['distill', 'byol', 'objectness'])
def test_pretraining_config(init, detector, arm):
    source = Config.fromfile(arms.Arm(arm).config(init, detector))
    args = arguments('x', 'x', arm, '--view-size=96', '--optimizer=adamw')
    args = transfer.parse_args(args)
    args.pretrain_iters = None
    data = DataSet(Path('/some/data'), ('a',), 100, 100, 10)
    files = dict(weights=Path('/some/w.pth'), regions=Path('/some/r.json'))
    cfg = arms.pretrain_config(source, args, data, seconds=60.0, **files)
    # one view size, train images only, one budget, no other schedule
    dataset = cfg.train_dataloader.dataset
    steps = list(parts_of(dataset.pipeline))
    sizes = {
        step.get('scale', step.get('view_size'))
        for step in steps
        if step['type'].endswith(('RandomResizedCrop', 'RegionViews'))
    } - {None}
    assert sizes == {96}
    files = {step.get('object_proposer', {}).get('ann_file') for step in steps}
    assert ('/some/r.json' in files) == (arm == 'objectness')
    assert dataset.data_root == '/some/data/'
    assert dataset.data_prefix.img_path == 'train/'
    assert not dataset.get('ann_file')
    (budget,) = (h for h in cfg.custom_hooks if 'BudgetHook' in h['type'])
    assert budget['seconds'] == 60.0
    assert budget['views'] == (2 if arm == 'byol' else 1)
    assert budget['warmup'] == 0.05
    assert cfg.param_scheduler == []
    decay = 1e-6 if arm == 'distill' else 0.05  # has AdamW of its own
    optimizer = dict(type='AdamW', lr=5e-4, weight_decay=decay)
    assert cfg.optim_wrapper.optimizer == optimizer
    assert cfg.model.get('queue_len', 64) == 64  # half an epoch
    weights = '/some/w.pth' if init == 'imagenet' else None
    assert cfg.get('load_from') == weights


def test_region_search_command(tmp_path):
    config = tmp_path / 'arm.py'

    def command(text, weights=None):
        config.write_text(f'model = dict()\n{text}')
        paths = config, Path('i'), Path('o.json'), weights
        found = arms.region_search(*paths, Path('/clone').joinpath)
        return found and found[1:]

    common = ['i', '--out=o.json', '--workers=2', '--cfg-options']
    common += ['mode=single', 'max_regions=15']
    assert command('') is None
    assert command('num_clusters = 1') == common
    common += ['--clusters=8']
    assert command("num_clusters = 8; cluster_by = 'colour'") == common
    backbone = "num_clusters = 8; cluster_by = 'backbone'"
    features = ['--teacher', str(config), 'w.pth']
    assert command(backbone, Path('w.pth')) == common + features
    with pytest.raises(ValueError, match='--init imagenet'):
        command(backbone)
    with pytest.raises(ValueError, match="'backbone' or 'colour'.*'shape'"):
        command("num_clusters = 8; cluster_by = 'shape'")
    # a region teacher, of whose embeddings the clusters may be made
    weights = tmp_path / 'efficientnet-lite2.pth'
    teacher = f"region_teacher = dict(model='m', weights='{weights}', size=98)"
    text = f"num_clusters = 8; cluster_by = 'teacher'; {teacher}"
    embedded = ['--teacher', 'm', str(weights), '--teacher-size=98']
    assert command(text) == common + embedded
    by_colour = [*common, '--cluster-by=colour', *embedded]
    assert command(text.replace("'teacher'", "'colour'")) == by_colour
    with pytest.raises(ValueError, match="'teacher' or 'colour'.*'backbone'"):
        command(text.replace("'teacher'", "'backbone'"))


def test_queue_is_half_an_epoch():
    assert arms.queue_length(510, 32) == 224
    assert arms.queue_length(6, 32) == 64
    assert arms.queue_length(10**6, 32) == 65536


def test_label_subsets(tmp_path):
    data = tiny_coco(tmp_path, num_images=6, num_val=2)
    labels = data / 'annotations/train.json'
    labels.write_bytes(b'\xef\xbb\xbf' + labels.read_bytes())

    def objects(content):
        return Counter(note['category_id'] for note in content['annotations'])

    whole = DataSet.read(data)
    assert whole.num_images == 6 and len(whole.classes) == 10
    content = label_subset(whole, labels=3)
    assert content == label_subset(whole, labels=3)
    ids = {image['id'] for image in content['images']}
    assert len(ids) == 3
    source = json.loads(labels.read_bytes())
    assert content['annotations'] == [
        note for note in source['annotations'] if note['image_id'] in ids
    ]
    with pytest.raises(ValueError, match='--labels 99'):
        label_subset(whole, labels=99)
    # a number of objects of each class, as far as there are so many
    few = label_subset(whole, shots=2)
    assert few['categories'] == source['categories']
    assert 0 < len(few['images']) <= 6
    for label, number in objects(source).items():
        assert objects(few)[label] >= min(number, 2)
    every = label_subset(whole, shots=10**6)
    assert objects(every) == objects(source)
