"""transfer.py on tiny data sets: its runs, in this process."""

import json
import runpy
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from lib import transfer_arms as arms
from lib.coco_data import DataSet, label_subset
from lib.transfer_plan import Plan
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import parts_of
from mmfgl.utils.steps import StepRunner
from tools.benchmarks import transfer


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('transfer')
    return tiny_coco(root / 'data', num_images=6, num_val=2)


@pytest.fixture
def ran(monkeypatch):
    """Names of the steps that were run, without a process for each."""
    names = []

    def stream(self, step, command):
        names.append(step.name)
        log = self.folder / f'{step.name}.log'
        if command[0].endswith('train.py'):
            # MMEngine would go on with the visualizer of the run before
            name = f'visualizer.name={step.name}{len(names)}'
            command = [*command, '--cfg-options', name]
        monkeypatch.setattr(sys, 'argv', command)
        with (
            log.open('a') as file,
            redirect_stdout(file),
            redirect_stderr(file),
            DefaultScope.overwrite_default_scope('mmengine'),
        ):
            runpy.run_path(command[0], run_name='__main__')

    monkeypatch.setattr(StepRunner, '_stream', stream)
    return names


def arguments(data, out, arms, *more):
    text = (
        f'--data-root {data} --init random --arms {arms} --pretrain-iters 2 '
        f'--finetune-iters 2 --view-size 64 --workers 0 --threads 1 '
        f'--out {out}'
    )
    return [*text.split(), *more]


def read(path):
    return json.loads(path.read_text())


def test_end_to_end(data, tmp_path, ran, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # small batches; the published ones are for a real run
    paths = {}
    for name in ('byol', 'objectness'):
        base = arms.Arm(name).config('random', 'faster-rcnn')
        paths[name] = tmp_path / f'{name}.py'
        text = f"_base_ = '{base}'\ntrain_dataloader = dict(batch_size=2)\n"
        paths[name].write_text(text)
    names = ','.join(f'{name}={path}' for name, path in paths.items())
    out = tmp_path / 'out'
    main = transfer.main
    main(arguments(data, out, f'none,{names}', '--seeds', '1'))
    first = ['pretrain_byol', 'proposals_objectness', 'pretrain_objectness']
    first += [f'finetune_{name}_seed0' for name in ('none', *paths)]
    assert ran == first
    results = read(out / 'results.json')
    assert results['settings']['pretrain_iters'] == 2
    found = results['arms']
    # iterations x images x views
    seen = {name: arm['images_seen'] for name, arm in found.items()}
    assert seen == dict(none=0, byol=2 * 2 * 2, objectness=2 * 2 * 1)
    for name, arm in found.items():
        for metric in ('AP', 'AP50', 'AP75', 'APs'):
            assert len(arm[metric]) == 1
        assert (arm['pretrain_seconds'] > 0) == (name != 'none')
        assert bool(arm['loaded']) == (name != 'none')
    # objectness hands over more than a backbone
    assert '100.0 %' in found['objectness']['loaded']
    more = {'neck', 'rpn_head', 'roi_head.bbox_head.shared_fcs'}
    for name, modules in (('byol', set()), ('objectness', more)):
        cfg = Config.fromfile(out / f'configs/finetune_{name}_seed0.py')
        assert set(cfg.custom_hooks[0]['modules']) == {'backbone', *modules}
    text = (out / 'results.md').read_text()
    assert '| objectness |' in text and f'--out {out}' in text
    for name in ('pretraining', 'finetuning', 'ap'):
        assert (out / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    assert '| none |' in capsys.readouterr().out

    # nothing is run twice, and a seed can be added
    ran.clear()
    main(arguments(data, out, 'none', '--seeds', '1'))
    assert ran == []
    main(arguments(data, out, 'none', '--seeds', '2'))
    assert ran == ['finetune_none_seed1']
    results = read(out / 'results.json')
    assert len(results['arms']['none']['AP']) == 2
    assert len(results['arms']['byol']['AP']) == 1  # kept

    # other settings, or another config of an arm, are refused
    with pytest.raises(SystemExit, match='finetune_iters: 2 there, 3 now'):
        main([*arguments(data, out, 'none'), '--finetune-iters', '3'])
    with paths['byol'].open('a') as file:
        file.write('model = dict(base_momentum=0.5)\n')
    before = (out / 'configs/pretrain_byol.py').read_text()
    with pytest.raises(SystemExit, match='--redo byol'):
        main(arguments(data, out, f'byol={paths["byol"]}', '--seeds', '1'))
    assert (out / 'configs/pretrain_byol.py').read_text() == before


def test_several_data_sets(data, tmp_path, ran, capsys):
    other = tiny_coco(tmp_path / 'other', num_images=3, num_val=2)
    out = tmp_path / 'out'
    more = ('--seeds', '1', '--shots', '1')
    transfer.main(arguments(f'{data},{other}', out, 'none', *more))
    assert ran == ['finetune_none_seed0'] * 2
    results = read(out / 'results.json')
    parts = results['data_sets']
    assert parts == {
        name: read(out / name / 'results.json') for name in ('data', 'other')
    }
    each = [part['arms']['none']['AP'][0] for part in parts.values()]
    (mean,) = results['arms']['none']['AP']
    assert mean == pytest.approx(sum(each) / 2, abs=0.01)
    for text in (capsys.readouterr().out, (out / 'results.md').read_text()):
        assert text.count('\n| none |') == 3
    with pytest.raises(SystemExit, match='two data sets of one name'):
        transfer.main(arguments(f'{data},{data}', out, 'none'))


def test_plan_of_both_detectors(data, tmp_path, ran, capsys):
    out = tmp_path / 'out'
    text = arguments(data, out, 'none,byol,objectness', '--detector=both')
    plan = Plan(transfer.parse_args(text), data, out)
    rows = {row.name: (row.detector, row.pretraining) for row in plan.rows}
    assert rows == {
        'none': ('faster-rcnn', ''),
        'byol': ('faster-rcnn', 'byol'),
        'objectness': ('faster-rcnn', 'objectness'),
        'none-fgl': ('fgl', ''),
        'objectness-fgl': ('fgl', 'objectness-fgl'),
    }
    # pretrainings, region searches, fine-tunings
    assert plan.num_steps == 3 + 2 + 3 * 5
    transfer.main([*text, '--dry-run'])
    assert ran == [] and not out.exists()
    text = capsys.readouterr().out
    assert 'fine-tune objectness-fgl: fgl, 3 x 2 iterations' in text
    assert 'Expect about' in text


@pytest.mark.parametrize('init', ['random', 'imagenet'])
@pytest.mark.parametrize('detector', ['faster-rcnn', 'fgl'])
@pytest.mark.parametrize('arm', ['densecl', 'byol', 'objectness'])
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
    assert budget['views'] == (1 if arm == 'objectness' else 2)
    assert budget['warmup'] == 0.05
    assert cfg.param_scheduler == []
    optimizer = dict(type='AdamW', lr=5e-4, weight_decay=0.05)
    assert cfg.optim_wrapper.optimizer == optimizer
    weights = '/some/w.pth' if init == 'imagenet' else None
    assert cfg.get('load_from') == weights


def test_region_search_command(tmp_path):
    config = tmp_path / 'arm.py'

    def command(text, weights=None):
        config.write_text(f'model = dict()\n{text}')
        found = arms.region_search(config, Path('i'), Path('o.json'), weights)
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
    with pytest.raises(FileNotFoundError, match='--variant 2 --out'):
        command(text)
    torch.save({}, weights)
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


def test_label_subsets(data):
    def objects(content):
        return Counter(note['category_id'] for note in content['annotations'])

    whole = DataSet.read(data)
    assert whole.num_images == 6 and len(whole.classes) == 10
    content = label_subset(whole, labels=3)
    assert content == label_subset(whole, labels=3)
    ids = {image['id'] for image in content['images']}
    assert len(ids) == 3
    source = read(data / 'annotations/train.json')
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


def test_clear_errors(data, tmp_path, monkeypatch):
    def fails(message, *options):
        with pytest.raises(SystemExit, match=message):
            transfer.main(arguments(*options))

    with monkeypatch.context() as patch:
        patch.setattr(arms, 'CONFIGS', tmp_path)
        folder = tmp_path / 'transfer'
        looked = f'{folder}/x_faster-rcnn_r18-half-fpn_1xb\\*.py\\s+'
        looked += f'{folder}/x_r18-half_1xb\\*.py'
        fails(looked, data, tmp_path, 'x')
        folder.mkdir()
        for batch in (8, 16):
            (folder / f'x_r18-half_1xb{batch}.py').touch()
        fails('2 config.* of the arm "x"', data, tmp_path, 'x')
    fails('annotations', tmp_path, tmp_path, 'none')
    fails('an arm twice', data, tmp_path, 'none,none')
