import json
import shutil

import pytest

from mmfgl.reports import read_curve
from mmfgl.reports.runs import find_runs


def test_curve_of_a_resumed_run(tmp_path):
    first = [{'step': s, 'loss': 10.0 - s} for s in (1, 2, 3)]
    second = [{'step': s, 'loss': 1.0} for s in (3, 4)]
    second.append({'step': 4, 'coco/bbox_mAP': 0.5})
    for day, records in enumerate((first, second)):
        path = tmp_path / f'2025010{day}_000000/vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text('\n'.join(map(json.dumps, records)))
    expected = [(1, 9.0), (2, 8.0), (3, 1.0), (4, 1.0)]
    assert read_curve(tmp_path) == expected
    assert read_curve(tmp_path, 'coco/bbox_mAP') == [(4, 0.5)]
    with pytest.raises(FileNotFoundError, match='nothing was trained'):
        read_curve(tmp_path / 'none')


def write_log(folder, day, records, resume=None):
    path = folder / f'2025010{day}_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))
    if resume is not None:
        path.with_name('config.py').write_text(f'lr = 1\nresume = {resume}\n')
    return path


def test_a_new_run_in_an_old_work_dir(tmp_path):
    old = [{'step': s, 'loss': 1.0, 'coco/bbox_mAP': 0.2} for s in (10, 20)]
    new = [{'step': s, 'loss': 5.0} for s in (10, 15)]
    write_log(tmp_path, 1, old, False)
    write_log(tmp_path, 2, new[:1], False)
    write_log(tmp_path, 3, new[1:], True)
    assert read_curve(tmp_path) == [(10, 5.0), (15, 5.0)]
    assert read_curve(tmp_path, 'coco/bbox_mAP') == []


def test_a_log_that_was_cut_off(tmp_path):
    log = write_log(tmp_path, 1, [dict(step=1, loss=2.0)])
    log.write_text(log.read_text() + '\n{"step": 2, "lo')
    assert read_curve(tmp_path) == [(1, 2.0)]
    log.write_text(log.read_text() + '\n{"step": 3}')
    with pytest.raises(ValueError, match=r'scalars\.json, line 2: '):
        read_curve(tmp_path)


def test_run_folder(run_folder):
    runs = find_runs([run_folder])
    names = ['imagenet', 'pretrain', 'retod']
    assert [training.name for training in runs.trainings] == names
    assert [t.detects for t in runs.trainings] == [True, False, True]
    names = ['imagenet-plain', 'retod-plain', 'retod-tta']
    assert [test.name for test in runs.tests] == [f'test-{n}' for n in names]
    assert [test.tta for test in runs.tests] == [False, False, True]
    assert not runs.transfers  # its results.json is no benchmark's
    training = runs.training_of(runs.tests[2])
    assert training.name == 'retod'
    assert training.seconds == pytest.approx(60)  # 20 iterations of 3 s
    assert training.steps == '20 iterations'
    assert training.ap_curve() == [(10, 10.0), (20, 20.0)]
    assert runs.tests[1].metric('mAP') == pytest.approx(50)
    # COCO's -1 and what was not measured
    assert runs.tests[1].metric('mAP_50') is None
    assert runs.tests[1].metric('mAP_s') is None


def test_length_of_a_training_by_the_clock(tmp_path, write):
    write.training(tmp_path, tmp_path)
    (tmp_path / 'budget.json').write_text(json.dumps(dict(iters=17)))
    (training,) = find_runs([tmp_path]).trainings
    assert training.steps == '17 iterations'  # its config expected 20


def test_time_is_that_of_iterations(tmp_path, write):
    write.training(tmp_path, tmp_path)
    log = next(tmp_path.glob('*/vis_data/scalars.json'))
    validation = {'step': 10, 'time': 900.0, 'coco/bbox_mAP': 0.1}
    log.write_text(f'{log.read_text()}\n{json.dumps(validation)}')
    (training,) = find_runs([tmp_path]).trainings
    assert training.seconds == pytest.approx(60)


def test_names_tell_folders_apart(run_folder):
    dirs = [run_folder / 'retod', run_folder / 'test-retod-tta', run_folder]
    runs = find_runs(dirs[:2])
    assert [r.name for r in (*runs.trainings, *runs.tests)] == [
        'retod',
        'test-retod-tta',
    ]
    names = {training.name for training in find_runs(dirs[::2]).trainings}
    assert {'retod', 'a<u>run/retod'} <= names


def test_transfer(tmp_path, run_folder):
    arm = dict(AP=[1.0], pretrain_seconds=0.0, images_seen=0)
    content = dict(arms=dict(none=arm), settings=dict(data='x'))
    (tmp_path / 'results.json').write_text(json.dumps(content))
    (tmp_path / 'finetune' / 'none').mkdir(parents=True)
    seed = tmp_path / 'finetune' / 'none' / 'seed0'
    seed.symlink_to(run_folder / 'retod', target_is_directory=True)
    runs = find_runs([tmp_path])
    assert runs.transfers == {tmp_path.name: content}
    assert [(t.name, t.arm) for t in runs.trainings] == [('none', True)]


def test_tests_inside_of_a_training(tmp_path, run_folder):
    """Where tools/test.py writes them."""
    folder = tmp_path / 'a_config'
    shutil.copytree(run_folder / 'retod', folder)
    for name in ('test', 'test-tta'):
        (folder / name).symlink_to(run_folder / 'test-retod-tta')
    for given in (folder, tmp_path):
        runs = find_runs([given])
        assert [t.name for t in runs.trainings] == ['a_config']
        names = [test.name for test in runs.tests]
        assert names == ['a_config/test', 'a_config/test-tta']


def test_a_folder_of_all_kinds(tmp_path, run_folder):
    arm = dict(AP=[1.0], pretrain_seconds=0.0, images_seen=0)
    content = dict(arms=dict(none=arm), settings=dict(data='x'))
    (tmp_path / 'bench').mkdir()
    (tmp_path / 'bench/results.json').write_text(json.dumps(content))
    (tmp_path / 'first').symlink_to(run_folder, target_is_directory=True)
    work_dir = run_folder / 'retod'
    (tmp_path / 'one').symlink_to(work_dir, target_is_directory=True)
    runs = find_runs([tmp_path])
    assert runs.transfers == dict(bench=content)
    names = {training.name for training in runs.trainings}
    names |= {test.name for test in runs.tests}
    assert names >= {'one', 'first/retod', 'first/test-retod-tta'}


@pytest.mark.parametrize('content', ['[]', '{"arms": {"a": 3}}', '{}'])
def test_results_of_something_else(tmp_path, run_folder, content):
    (tmp_path / 'results.json').write_text(content)
    work_dir = run_folder / 'retod'
    (tmp_path / 'one').symlink_to(work_dir, target_is_directory=True)
    runs = find_runs([tmp_path])
    assert [training.name for training in runs.trainings] == ['one']


def test_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match='holds no run.*mmfgl run'):
        find_runs([tmp_path])
    with pytest.raises(FileNotFoundError, match='none is not there'):
        find_runs([tmp_path / 'none'])
