"""Kept results: their schema, and how a run becomes one."""

import json
import sys

import pytest
import torch
from benchmark_tables.adding import add_run
from benchmark_tables.kept import check, read_kept
from kept_runs import COMMAND, COMMIT, a_file, an_arm
from lib.output import run_record, write_results

TESTS = ('plain', 'tta')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.pop('machine'), 'needs the keys'),
        (lambda c: c.update(kind='guess'), "kind is 'guess'"),
        (lambda c: c.update(command='make'), 'must be a call of'),
        (lambda c: c.update(commits=['0123456-dirty']), 'commit the code'),
        (
            lambda c: c['settings'].update(out='/home/me/x'),
            'path of a machine',
        ),
        (lambda c: c['settings'].pop('init'), 'settings.init is missing'),
        (lambda c: c['metrics']['a'].pop('AP75'), 'metrics.a.AP75 is missing'),
        (lambda c: c['metrics']['a']['AP'].pop(), 'every metric of every'),
        (lambda c: c.update(metrics={}), 'metrics is empty'),
    ],
)
def test_schema(change, words, tmp_path):
    content = a_file({'a': an_arm(1.0, 2.0)})
    check(content, tmp_path / 'x.json')
    change(content)
    with pytest.raises(ValueError, match=words) as error:
        check(content, tmp_path / 'x.json')
    assert str(error.value).startswith(str(tmp_path / 'x.json'))


@pytest.fixture
def run(tmp_path):
    """What transfer.py leaves, with checkpoints."""
    out = tmp_path / 'a_run'
    arms = {'none': an_arm(1.0), 'cut-off': an_arm()}
    results = a_file({})
    settings = results['settings'] | dict(data_root='/mnt/me/photos')
    settings['machine'] = {'cores': '2'}
    folder = out / 'finetune/none/seed0'
    folder.mkdir(parents=True)
    meta = dict(mmengine_version=f'0.10.7{COMMIT}')
    torch.save(dict(state_dict={}, meta=meta), folder / 'iter_9.pth')
    (out / 'results.md').write_text(f'| x |\n\n```\n{COMMAND}\n```\n')
    content = dict(arms=arms, settings=settings)
    (out / 'results.json').write_text(json.dumps(content))
    return out


def test_add(clone, run):
    clone.run('--add', str(run))
    path = clone.results / 'transfer_a_run.json'
    kept = json.loads(path.read_text())
    assert kept['command'].endswith(
        '--data-root data/photos --arms none,own=configs/own.py --out=DIR'
    )
    assert kept['commits'] == [COMMIT[:7]]
    assert kept['machine'] == {'cores': '2'}
    assert list(kept['metrics']) == ['none']
    # what its arms are called today is written by hand, and stays
    kept['settings']['renamed'] = {'none': 'nothing'}
    path.write_text(json.dumps(kept))
    # another seed, at a later commit
    results = json.loads((run / 'results.json').read_text())
    results['arms']['none'] = an_arm(1.0, 2.0)
    (run / 'results.json').write_text(json.dumps(results))
    meta = dict(mmengine_version='0.10.7' + COMMIT[::-1])
    torch.save(dict(state_dict={}, meta=meta), run / 'iter_10.pth')
    clone.run('--add', str(run))
    kept = json.loads(path.read_text())
    assert kept['metrics']['none']['AP'] == [1.0, 2.0]
    assert kept['settings']['renamed'] == {'none': 'nothing'}
    assert sorted(kept['commits']) == [COMMIT[:7], COMMIT[::-1][:7]]
    assert '1.0, 2.0' in clone.readme.read_text()


def test_command_names_arms_of_earlier_calls(clone, run):
    path = run / 'results.json'
    results = json.loads(path.read_text())
    arms = ('own', 'early', 'own-fgl')
    results['arms'] = {arm: an_arm(1.0 + i) for i, arm in enumerate(arms)}
    path.write_text(json.dumps(results))
    equals = COMMAND.replace('--arms ', '--arms=')
    for command, option in ((COMMAND, '--arms '), (equals, '--arms=')):
        clone.run('--add', str(run), '--command', command)
        kept = json.loads((clone.results / 'transfer_a_run.json').read_text())
        words = f' {option}none,own=configs/own.py,early --out=DIR'
        assert kept['command'].endswith(words)


def test_add_needs_command_and_commit(clone, run):
    assert 'does not exist' in clone.fails('--add', str(run.parent))
    (run / 'results.md').unlink()
    assert 'give --command' in clone.fails('--add', str(run))
    (run / 'finetune/none/seed0/iter_9.pth').unlink()
    argv = ['--add', str(run), '--command', COMMAND]
    assert 'give --commit' in clone.fails(*argv)
    record = dict(command=COMMAND, commit='abcdef0-dirty', machine={'a': 'b'})
    (run / 'run.json').write_text(json.dumps(record))
    assert 'commit the code' in clone.fails('--add', str(run))
    record['commit'] = 'abcdef0'
    (run / 'run.json').write_text(json.dumps(record))
    clone.run('--add', str(run), '--name', 'mine')
    assert 'mine' in {kept.name for kept in read_kept(clone.results)}


def test_benchmarks_say_what_they_ran(tmp_path, monkeypatch):
    argv = ['/a/clone/tools/benchmarks/syncs.py', '--out', str(tmp_path)]
    monkeypatch.setattr(sys, 'argv', argv)
    counts = dict(step=dict(waits={'mmdet a': 1}, uploads={}))
    write_results(tmp_path, counts, 'a table')
    folder = tmp_path / 'kept'
    (path,) = add_run(tmp_path, folder, name='x', commit='abcdef0')
    kept = json.loads(path.read_text())
    assert kept['command'] == 'python tools/benchmarks/syncs.py --out DIR'
    assert kept['metrics'] == counts
    assert 'torch' in kept['machine']


def test_what_mmfgl_itself_has_measured(tmp_path):
    out, folder = tmp_path / 'first', tmp_path / 'kept'
    out.mkdir()
    modes = {mode: dict(AP=1.0, AP50=2.0, AP75=0.5) for mode in TESTS}
    results = dict(
        arms=dict(imagenet=modes, retod=modes), best='retod', seconds={},
        iters=dict(pretrain=3, imagenet=4, retod=4),
        settings=dict(photos='/mnt/me/photos', minutes=5, iters=None),
    )  # fmt: skip
    (out / 'results.json').write_text(json.dumps(results))
    command = 'mmfgl run /mnt/me/photos --out /tmp/first --minutes 5'
    record = dict(command=command, machine={'cores': '2'})
    (out / 'run.json').write_text(json.dumps(record))
    (path,) = add_run(out, folder, commit='abcdef0')
    assert path.name == 'run_first.json'
    kept = json.loads(path.read_text())
    assert kept['command'] == 'mmfgl run photos --out DIR --minutes 5'
    assert kept['settings']['photos'] == 'photos'
    assert kept['metrics']['retod'] == modes | dict(iters=4)
    assert kept['machine'] == {'cores': '2'}
    record = dict(
        command=f'mmfgl export {out} --check /mnt/me/photos', machine={},
        settings=dict(config='first', model='FGL'),
        metrics=dict(images=2, torch=3, onnx=3, matches=3, box=0.1, score=0.1),
    )  # fmt: skip
    check = out / 'model.check.json'
    check.write_text(json.dumps(record))
    (path,) = add_run(check, folder, commit='abcdef0')
    assert path.name == 'export_model.json'
    kept = json.loads(path.read_text())
    assert kept['command'] == 'mmfgl export first --check photos'
    assert kept['metrics'] == record['metrics']


def test_without_git(monkeypatch):
    monkeypatch.setenv('PATH', '/nowhere')
    record = run_record()
    assert record['commit'] is None and record['machine']['torch']
