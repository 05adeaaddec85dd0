"""transfer.py on tiny data sets: its runs, in this process."""

import json
import pathlib
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
from lib import transfer_arms as arms
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import find_latest_checkpoint

from mmfgl.engine.hooks import LoadReport
from mmfgl.reports import read_curve
from mmfgl.testing import tiny_coco
from mmfgl.utils.steps import StepRunner
from tests.test_tools.transfer_arguments import arguments, read
from tools.benchmarks import lightly, transfer


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('transfer')
    return tiny_coco(root / 'data', num_images=6, num_val=2)


@pytest.fixture
def ran(monkeypatch, unformatted_configs):
    """Names of the steps that were run, without a process for each."""
    names = []

    def stream(self, step, command, note, left):
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

    # other labels, settings, or another config of an arm, are refused
    labels = pathlib.Path(data, 'annotations/train.json')
    text = labels.read_text()
    content = json.loads(text)
    content['annotations'][0]['category_id'] += 1
    labels.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match='annotations: .* there, '):
        main(arguments(data, out, 'none'))
    labels.write_text(text)
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


def test_clear_errors(data, tmp_path, monkeypatch):
    def fails(message, *options):
        with pytest.raises(SystemExit, match=message):
            transfer.main(arguments(*options))

    with monkeypatch.context() as patch:
        patch.setattr(arms, 'CONFIGS', tmp_path)
        folder = tmp_path / 'transfer'
        looked = f'{folder}/x_faster-rcnn_r18-half-fpn_1xb\\*.py;\\s+'
        looked += f'{folder}/x_r18-half_1xb\\*.py'
        fails(looked, data, tmp_path, 'x')
        folder.mkdir()
        for batch in (8, 16):
            (folder / f'x_r18-half_1xb{batch}.py').touch()
        fails('2 config.* of the arm "x"', data, tmp_path, 'x')
    fails('annotations', tmp_path, tmp_path, 'none')
    fails('an arm twice', data, tmp_path, 'none,none')
    fails('--redo retod: no arm', data, tmp_path, 'none', '--redo=retod')


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('--pretrain-iters=0', 'budget must be a number above 0'),
        ('--pretrain-minutes=nan', 'budget must be a number above 0'),
        ('--arms=a b', "not a name of an arm: 'a b'"),
        ('--workers=-1', '--workers must be at least 0'),
    ],
)
def test_wrong_options(tmp_path, capsys, option, message):
    words = ['--data-root=x', '--init=random', f'--out={tmp_path}', option]
    with pytest.raises(SystemExit):
        transfer.parse_args(words)
    assert message in capsys.readouterr().err
