"""transfer.py on tiny data sets: its runs, in this process."""

import json
import re
import runpy
import sys
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from lib import transfer_arms as arms
from lib import transfer_plan, transfer_results
from lib.coco_data import DataSet, label_subset
from lib.transfer_plan import Plan
from lib.transfer_runs import Runs
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import find_latest_checkpoint

from mmfgl.engine.hooks import LoadReport
from mmfgl.reports import read_curve
from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import parts_of
from mmfgl.utils.steps import StepRunner
from tools.benchmarks import lightly, transfer
from tools.dataset_converters import propose_regions


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


def test_weights_are_converted_where_they_are_missing(
    data, tmp_path, monkeypatch
):
    text = arguments(data, tmp_path, 'distill', '--init=imagenet')
    args = transfer.parse_args(text)
    names = [f'efficientnet-lite{i}_imagenet.pth' for i in (0, 2)]
    monkeypatch.setattr(transfer_plan, 'ROOT', tmp_path / 'clone')
    plan = Plan(args, data, tmp_path / 'out')
    paths = [tmp_path / 'out/weights' / name for name in names]
    assert plan.conversions == dict(zip(paths, '02', strict=True))
    assert plan.weights == paths[0] and plan.num_steps == 2 + 1 + 3
    steps = iter(Runs(plan))
    commands = [next(steps).command[1:] for _ in paths]
    assert commands == [
        [f'--variant={i}', f'--out={path}']
        for i, path in zip('02', paths, strict=True)
    ]
    # those of the clone come first
    for name in names:
        path = tmp_path / 'clone/checkpoints' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    plan = Plan(args, data, tmp_path / 'out')
    assert not plan.conversions and plan.weights.parent == path.parent
    step = next(iter(Runs(plan)))
    cfg = Config.fromfile(step.config)
    assert cfg.model.teacher.init_cfg.checkpoint == str(path)
    with pytest.raises(FileNotFoundError, match='there are no weights.*vit'):
        plan.locate('checkpoints/vit.pth')


def test_arm_of_an_outside_program(data, tmp_path):
    more = ('--init=imagenet', '--lightly-python=there/python', '--seeds=1')
    text = arguments(data, tmp_path, 'none,lightly', '--detector=both', *more)
    plan = Plan(transfer.parse_args(text), data, tmp_path / 'out')
    assert [row.name for row in plan.rows] == ['none', 'lightly', 'none-fgl']
    plan.conversions = {}
    step = next(iter(Runs(plan)))
    assert step.name == 'pretrain_lightly'
    command = step.command
    assert command[0].endswith('tools/benchmarks/lightly.py')
    args = lightly.parse_args(command[1:])
    assert args.iters == 2 and args.view_size == 64
    assert args.python == str(Path('there/python').absolute())
    with pytest.raises(RuntimeError, match='there/python.*pip install light'):
        lightly.check_environment(args.python)
    with pytest.raises(RuntimeError, match='has no LightlyTrain: python -m'):
        lightly.check_environment(sys.executable)
    for missing, message in (
        (0, 'needs --init imagenet'),
        (1, 'outside program.*--lightly-python'),
    ):
        few = [*more[:missing], *more[missing + 1 :]]
        text = arguments(data, tmp_path, 'lightly', *few)
        with pytest.raises(ValueError, match=message):
            Plan(transfer.parse_args(text), data, tmp_path / 'out')


def test_results_of_an_outside_program(tmp_path):
    args = ['x', '--python=p', '--iters=3', f'--work-dir={tmp_path}']
    args = lightly.parse_args(args)
    model = lightly.lite.build_timm()
    path = tmp_path / 'lightly/exported_models/exported_last.pt'
    path.parent.mkdir(parents=True)
    torch.save(model.state_dict(), path)
    metrics = [dict(step=9, train_loss=5.0), dict(step=14, lr=0.1)]
    lightly.write_results(args, '0.18', metrics, spent=7.04)
    checkpoint = find_latest_checkpoint(str(tmp_path))
    state = torch.load(checkpoint)['state_dict']
    backbone = MODELS.build(
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='tf_efficientnet_lite0',
            features_only=True,
        )
    )
    # as strictly as a fine-tuning loads it
    own = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    LoadReport(own, state, ['backbone']).check(checkpoint, state)
    assert set(state) == set(own)
    assert read(tmp_path / 'budget.json') == dict(
        seconds=7.0, iters=15, images=15 * 32
    )
    assert read_curve(tmp_path) == [(10, 5.0)]


def test_rounds_of_a_pretraining(data, tmp_path):
    """The second learns from the first, all share the budget."""
    out = tmp_path / 'out'
    text = arguments(data, out, 'objectness-rounds', '--seeds=1')
    args = transfer.parse_args(text)
    args.pretrain_minutes, args.pretrain_iters = 1, None
    plan = Plan(args, data, out)
    steps = {}
    for step in Runs(plan):
        steps[step.name] = step
        state = dict(seconds=6.0, done=True, digest=step.digest())
        path = out / f'steps/{step.name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(state))
        if step.work_dir:
            step.work_dir.mkdir(parents=True)
            checkpoint = str(step.work_dir / 'iter.pth')
            (step.work_dir / 'last_checkpoint').write_text(checkpoint)
            torch.save(dict(state_dict={}), checkpoint)
            spent = dict(seconds=20.0, iters=5, images=40)
            (step.work_dir / 'budget.json').write_text(json.dumps(spent))
    name = 'objectness-rounds'
    first, second = f'{name}-round1', name
    assert [key for key in steps if 'finetune' not in key] == [
        f'proposals_{first}',
        f'pretrain_{first}',
        f'proposals_{second}',
        f'quality_{second}',
        f'pretrain_{second}',
    ]
    assert len(steps) == plan.num_steps
    options = steps[f'proposals_{first}'].command
    assert 'mode=single' in options and '--detector' not in options
    config = steps[f'pretrain_{first}'].config
    options = steps[f'proposals_{second}'].resolved_command()
    options = propose_regions.parse_args(options[1:])
    assert options.out == str(plan.regions(second)) and options.clusters == 64
    found = Path(options.detector[1]).resolve()
    assert options.detector[0] == config
    assert found == out / f'pretrain/{first}/iter.pth'
    assert options.cfg_options['join'] == str(plan.regions(first))
    cfgs = [
        Config.fromfile(steps[f'pretrain_{part}'].config)
        for part in (first, second)
    ]
    seconds = [
        hook['seconds']
        for cfg in cfgs
        for hook in cfg.custom_hooks
        if 'BudgetHook' in hook['type']
    ]
    # (60 - 6) / 2, and what two searches and a training leave
    assert seconds == [27.0, 28.0]
    assert cfgs[0].get('load_from') is None
    assert cfgs[1].load_from == str(found)
    for cfg, part in zip(cfgs, (first, second), strict=True):
        files = {
            step.get('object_proposer', {}).get('ann_file')
            for step in parts_of(cfg.train_dataloader.dataset.pipeline)
        }
        assert str(plan.regions(part)) in files
    state = {'roi_head.bbox_head.fc_cls.weight': 0, 'neck.x': 1}
    (hook,) = (h for h in cfgs[1].custom_hooks if 'Chain' in h['type'])
    for pattern, new in hook['revise_keys']:
        state = {re.sub(pattern, new, key): v for key, v in state.items()}
    assert 'neck.x' in state
    assert 'roi_head.bbox_head.fc_cls.weight' not in state
    (out / f'steps/finetune_{name}_seed0.json').unlink()
    arm = transfer_results._read_arm(out, name, name)
    assert arm['pretrain_seconds'] == 2 * 20 + 2 * 6
    assert arm['pretrain_iters'] == 10 and arm['images_seen'] == 80


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
