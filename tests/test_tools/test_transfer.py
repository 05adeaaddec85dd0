"""transfer.py on a tiny data set: its runs, in this process."""

import json
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmfgl.testing import tiny_coco
from mmfgl.utils import steps as steps_module

TOOLS = Path(__file__).resolve().parents[2] / 'tools/benchmarks'


@pytest.fixture(scope='module')
def modules():
    """The tool's own modules, importable as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TOOLS))
        import transfer
        import transfer_arms
        import transfer_detect
        import transfer_plan

        yield transfer, transfer_arms, transfer_detect, transfer_plan


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
            command = [
                *command,
                '--cfg-options',
                f'visualizer.name={step.name}',
            ]
        with (
            log.open('a') as file,
            redirect_stdout(file),
            redirect_stderr(file),
            DefaultScope.overwrite_default_scope('mmengine'),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, 'argv', command)
            runpy.run_path(command[0], run_name='__main__')

    monkeypatch.setattr(steps_module.StepRunner, '_stream', stream)
    return names


def arguments(data, out, arms, *more):
    text = (
        f'--data-root {data} --init random --arms {arms} --pretrain-iters 2 '
        f'--finetune-iters 2 --view-size 64 --workers 0 --threads 1 '
        f'--out {out}'
    )
    return [*text.split(), *more]


def test_end_to_end(modules, data, tmp_path, ran, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # small batches; the published ones are for a real run
    arms = {
        name: modules[1].Arm(name).config('random', 'faster-rcnn')
        for name in ('byol', 'retod')
    }
    for name, base in arms.items():
        arms[name] = tmp_path / f'{name}.py'
        arms[name].write_text(
            f"_base_ = '{base}'\ntrain_dataloader = dict(batch_size=2)\n"
        )
    names = ','.join(f'{name}={path}' for name, path in arms.items())
    out = tmp_path / 'out'
    main = modules[0].main
    main(arguments(data, out, f'none,{names}', '--seeds', '1'))
    first = ['pretrain_byol', 'pretrain_retod']
    first += [f'finetune_{name}_seed0' for name in ('none', *arms)]
    # the recipe of retod may compute proposals first
    assert [name for name in ran if name != 'proposals_retod'] == first
    results = json.loads((out / 'results.json').read_text())
    assert set(results['arms']) == {'none', 'byol', 'retod'}
    for name, arm in results['arms'].items():
        for metric in ('AP', 'AP50', 'AP75', 'APs'):
            assert len(arm[metric]) == 1
        trained = name != 'none'
        assert (arm['pretrain_seconds'] > 0) == trained
        assert (arm['images_seen'] > 0) == trained
        assert bool(arm['loaded']) == trained
    assert results['arms']['byol']['images_seen'] == 2 * 2 * 2
    assert results['settings']['pretrain_iters'] == 2
    assert '100.0 %' in results['arms']['retod']['loaded']
    # ReToD hands over more than a backbone
    modules_loaded = Config.fromfile(
        out / 'configs/finetune_retod_seed0.py'
    ).custom_hooks[0]['modules']
    assert 'neck' in modules_loaded
    assert 'roi_head.bbox_head.shared_fcs' in modules_loaded
    byol = Config.fromfile(out / 'configs/finetune_byol_seed0.py')
    assert byol.custom_hooks[0]['modules'] == ['backbone']
    assert '| retod |' in (out / 'table.md').read_text()
    for name in ('pretraining', 'finetuning', 'ap'):
        assert (out / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    assert (out / 'report.html').is_file()
    assert '| none |' in capsys.readouterr().out

    # nothing is run twice, and a seed can be added
    ran.clear()
    main(arguments(data, out, 'none', '--seeds', '1'))
    assert ran == []
    main(arguments(data, out, 'none', '--seeds', '2'))
    assert ran == ['finetune_none_seed1']
    results = json.loads((out / 'results.json').read_text())
    assert len(results['arms']['none']['AP']) == 2
    assert len(results['arms']['byol']['AP']) == 1  # kept

    # other settings, or another config of an arm, are refused
    with pytest.raises(SystemExit, match='finetune_iters: 2 there, 3 now'):
        main([*arguments(data, out, 'none'), '--finetune-iters', '3'])
    arms['byol'].write_text(
        arms['byol'].read_text() + 'model = dict(base_momentum=0.5)\n'
    )
    before = (out / 'configs/pretrain_byol.py').read_text()
    one = f'byol={arms["byol"]}'
    with pytest.raises(SystemExit, match='--redo byol'):
        main(arguments(data, out, one, '--seeds', '1'))
    assert (out / 'configs/pretrain_byol.py').read_text() == before


def test_plan_of_both_detectors(modules, data, tmp_path):
    args = modules[0].parse_args(
        arguments(data, tmp_path, 'none,byol,retod', '--detector', 'both')
    )
    args.out = tmp_path
    plan = modules[3].Plan(args)
    rows = {row.name: (row.detector, row.pretraining) for row in plan.rows}
    assert rows == {
        'none': ('faster-rcnn', ''),
        'byol': ('faster-rcnn', 'byol'),
        'retod': ('faster-rcnn', 'retod'),
        'none-fgl': ('fgl', ''),
        'retod-fgl': ('fgl', 'retod-fgl'),
    }
    # pretrainings, regions of both retod arms, fine-tunings
    assert plan.num_steps == 3 + 2 + 3 * 5
    assert 'Expect about' in plan.describe()


def test_dry_run_runs_nothing(modules, data, tmp_path, ran, capsys):
    out = tmp_path / 'out'
    modules[0].main(arguments(data, out, 'none,retod', '--dry-run'))
    assert ran == [] and not out.exists()
    assert 'fine-tune retod: faster-rcnn' in capsys.readouterr().out


@pytest.mark.parametrize('init', ['random', 'imagenet'])
@pytest.mark.parametrize('detector', ['faster-rcnn', 'fgl'])
@pytest.mark.parametrize('arm', ['densecl', 'byol-adamw', 'retod'])
def test_pretraining_config(modules, init, detector, arm):
    arms = modules[1]
    source = Config.fromfile(arms.Arm(arm).config(init, detector))
    cfg = arms.pretrain_config(
        source,
        data_root=Path('/some/data'),
        num_images=100,
        view_size=96,
        seconds=60.0,
        iters=None,
        weights=Path('/some/weights.pth'),
    )
    # one view size, train images only, one budget, no other schedule
    sizes = {
        step.get('scale', step.get('view_size'))
        for step in arms.steps_of(cfg.train_dataloader.dataset.pipeline)
        if step['type'].endswith(('RandomResizedCrop', '.RegionViews'))
    }
    assert sizes == {96}
    dataset = cfg.train_dataloader.dataset
    assert dataset.data_root == '/some/data/'
    assert dataset.data_prefix.img_path == 'train/'
    assert not dataset.get('ann_file')
    budget = [h for h in cfg.custom_hooks if 'BudgetHook' in h['type']]
    assert [h['seconds'] for h in budget] == [60.0]
    assert budget[0]['views'] in (1, 2)
    assert cfg.param_scheduler == []
    if init == 'imagenet':
        assert cfg.load_from == '/some/weights.pth'
    else:
        assert cfg.load_from is None


def test_queue_is_half_an_epoch(modules):
    length = modules[1].queue_length
    assert length(510, 32) == 224
    assert length(6, 32) == 64
    assert length(10**6, 32) == 65536


def test_proposals_stand_in_the_config(modules):
    cfg = Config(
        dict(
            model=dict(),
            proposals_command=['tool.py', '{images}', '{proposals}'],
            train_cfg=dict(),
            default_hooks=dict(checkpoint=dict(), logger=dict()),
            train_dataloader=dict(
                batch_size=2,
                dataset=dict(
                    pipeline=[dict(type='T', proposer='{proposals}')]
                ),
            ),
        )
    )
    new = modules[1].pretrain_config(
        cfg,
        data_root=Path('/data'),
        num_images=4,
        view_size=64,
        seconds=1.0,
        iters=None,
        proposals=Path('/out/boxes.json'),
    )
    assert 'proposals_command' not in new
    step = new.train_dataloader.dataset.pipeline[0]
    assert step['proposer'] == '/out/boxes.json'


def test_label_subset(modules, data, tmp_path):
    detect = modules[2]
    dataset = detect.DataSet.read(data)
    assert dataset.num_images == 6 and len(dataset.classes) == 10
    for name in ('a', 'b'):
        detect.write_subset(dataset, 3, tmp_path / f'{name}.json')
    content = json.loads((tmp_path / 'a.json').read_text())
    assert (tmp_path / 'b.json').read_text() == json.dumps(content)
    ids = {image['id'] for image in content['images']}
    assert len(ids) == 3
    assert {note['image_id'] for note in content['annotations']} == ids
    with pytest.raises(ValueError, match='--labels 99'):
        detect.write_subset(dataset, 99, tmp_path / 'c.json')


def test_clear_errors(modules, data, tmp_path):
    transfer = modules[0]
    with pytest.raises(SystemExit, match='no config of the arm "nosuch"'):
        transfer.main(arguments(data, tmp_path, 'nosuch'))
    with pytest.raises(SystemExit, match='annotations'):
        transfer.main(arguments(tmp_path, tmp_path, 'none'))
    with pytest.raises(SystemExit, match='an arm twice'):
        transfer.main(arguments(data, tmp_path, 'none,none'))
