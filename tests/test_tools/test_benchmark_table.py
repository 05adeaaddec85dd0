"""Tables come from kept results, and from nothing else."""

import re
import statistics

import pytest
import yaml
from benchmark_tables.comparing import compare
from benchmark_tables.kept import SUBCOMMANDS, read_kept
from benchmark_tables.tables import render, sources
from benchmark_tables.texts import files, fill, stray_numbers
from kept_runs import a_file, an_arm


def test_one_run_is_not_kept_twice(clone):
    clone.keep('c', a_file({'retod': an_arm(13.0, 16.0)}))
    assert 'c.json and b.json hold the same run' in clone.fails('--check')


def test_baseline_and_spread(clone):
    other = {'none': an_arm(50.0), 'distill': an_arm(60.0)}
    clone.keep('other', a_file(other) | dict(commits=['abcdef0']))
    content = a_file({'none': an_arm(70.0)})
    content['settings']['init'] = 'random'
    clone.keep('random', content)
    both = {'none': an_arm(20.0), 'none-fgl': an_arm(22.5)}
    content = a_file(both, train_images=9)
    content['settings']['detector'] = 'both'
    clone.keep('both', content)
    groups = compare(read_kept(clone.results))
    found = {
        (g.detector, g.equal, g.settings['train_images'], *g.arms): g
        for g in groups
    }
    equal = 'equal iterations: 20'
    assert set(found) == {
        ('faster-rcnn', equal, None, 'none', 'retod'),
        ('faster-rcnn', equal, None, 'none', 'distill'),
        ('faster-rcnn', 'none', None, 'none'),
        ('faster-rcnn', 'none', 9, 'none'),
        ('fgl', 'none', 9, 'none'),
    }
    group = found['faster-rcnn', equal, None, 'none', 'retod']
    # over the seeds that both have: 0 (of two runs without) and 1
    assert group.difference('retod', 'none') == (13 - 30 + 16 - 12) / 2
    assert group.difference('retod', 'objectness') is None
    text = render('transfer', read_kept(clone.results), dict(detector='fgl'))
    assert '| 22.5 |' in text
    assert '20.0' not in text


def test_lead_of_retod(clone):
    arms = {'none': an_arm(20.0), 'dense': an_arm(17.0)}
    arms['retod'] = an_arm(19.0)
    clone.keep('c', a_file(arms, train_images=9))
    content = a_file(arms | {'none': an_arm(10.0)})
    content['settings']['data'] = 'other'
    clone.keep('d', content)
    arms = {'none': an_arm(30.0), 'retod': an_arm(32.0)}
    content = a_file(arms)
    content['settings']['init'] = 'random'
    clone.keep('e', content)
    text = render('arms', read_kept(clone.results), {})
    row, last = [x for x in text.splitlines() if '*retod above it*,' in x][:2]
    assert ['ImageNet' in row, 'random' in last] == [True, True]
    assert '| +2.0 (1), +2.0 to +2.0 | – | – | – | – | – |' in last
    # none: photos, of seeds 0 and 1 (13 - 10 and 16 - 12) and of another
    # train set (19 - 20); other (19 - 10), which weighs as much as both
    none = f'{((3.5 - 1) / 2 + 9) / 2:+.1f} (2), -1.0 to +9.0'
    cells = f'| {none} | – | – | – | +2.0 (2), +2.0 to +2.0 |'
    assert f'{cells} – |' in row


def test_many_files_by_a_pattern(clone):
    for number in range(7):
        clone.keep(f'photos_{number}', a_file({'none': an_arm(number)}))
    kept = [run for run in read_kept(clone.results) if 'photos' in run.name]
    text = 'From the 7 files `benchmarks/results/photos_*.json`, of the '
    assert sources(kept) == f'{text}commits 0123456.'


def test_fills_and_checks(clone):
    assert 'README.md: tables and kept results disagree' in clone.fails(
        '--check'
    )
    clone.run()
    clone.run('--check')
    values = (13.0, 16.0, 90.0)
    spread = f'{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}'
    text = clone.readme.read_text()
    row = next(line for line in text.splitlines() if '| retod |' in line)
    assert f'| retod | {spread} |' in row
    assert '| 13.0, 16.0, 90.0 | +3.5 | – | – | 8 |' in row
    assert '`a.json` (0123456), `b.json` (0123456).' in text
    assert text.endswith('<!-- end -->\nEnd.\n')
    meta = clone.metafile.read_text()
    assert 'box AP: 39.7\n          box AP without pretraining: 11.0' in meta
    (result,) = yaml.safe_load(meta)['Models'][0]['Results']
    expected = r'photos \(equal .*; labels: .*; fine-tuning: \d+ iterations\)'
    assert re.fullmatch(expected, result['Dataset'])
    assert '31.3' not in meta  # there is no file that says so
    assert meta.count('Results: null # not yet measured\n    Downstream') == 1
    for path in (clone.readme, clone.metafile):
        good = path.read_text()
        path.write_text(good.replace('11.0', '11.1'))
        assert f'{path}: tables and kept' in clone.fails('--check')
        path.write_text(good)


@pytest.mark.parametrize(
    'line',
    [
        'Then 31.3 AP.',
        'AP50 of 53.3',
        '| 1.0 ± 0.2 |',
        '| a | 1.5 | **2.5** |',
        'AP 为 31.3',
        'All 104 of 104 detections match.',
        'Boxes differ by at most 0.01 pixels.',
        '104 个检测全部匹配',
        '坐标最多相差 0.01 像素',
        'It is 1.3 times faster.',
        '快 1.3 倍',
        'It reads 75 images a second.',
    ],
)
def test_number_without_a_file(clone, line):
    clone.readme.write_text(f'Words, 0.5 IoU.\n{line}\n')
    words = f'{clone.readme}:2: a number without its file'
    for mode in ((), ('--check',)):
        assert words in clone.fails(*mode)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('<!-- table: guess -->\n<!-- end -->', "no table 'guess'"),
        ('<!-- table: arms x=1 -->\n<!-- end -->', "has 'x'"),
        ('<!-- table: arms -->\n', 'has no <!-- end -->'),
        ('<!-- end -->', 'without a table'),
    ],
)
def test_broken_marker(clone, text, words):
    clone.readme.write_text(text)
    assert words in clone.fails()


@pytest.mark.parametrize('path', files(), ids=lambda p: '/'.join(p.parts[-3:]))
def test_this_clone_agrees(path):
    assert fill(path, read_kept()) == path.read_text(encoding='utf-8')


def test_no_number_in_the_code_of_this_clone(clone):
    assert stray_numbers() == []
    code = clone.root / 'mmfgl/layer.py'
    code.parent.mkdir()
    code.write_text('x = 1\n# gave 14.4 AP\n')
    assert f'{code}:2: a number without its file' in clone.fails('--check')


OTHERS = {
    'speed': (
        dict(size='4x4', device='cpu', threads=1),
        dict(infer_ratio=0.5, pretrain_ratio=dict(x=0.5),
             pretrain_images_per_second=dict(retod=2.0, x=4.0)),
    ),
    'tta': (
        dict(config='configs/a/b.py', views='flip'),
        dict(plain=dict(AP=10.0, seconds_per_image=2.0), det_tta=None,
             roi_tta_views=dict(AP=12.0, seconds_per_image=5.0)),
    ),
    'syncs': (
        {}, {'step': dict(waits={'mmdet': 2, 'mmfgl b': 1}, uploads={'c': 4})}
    ),
    'faults': (
        {}, dict(rows=[dict(fault='a', expected='b', ok=True)], kills=3,
                 survived=2),
    ),
    'pipeline': (
        {}, dict(pipeline_ratio=4.0, ours_images_per_second=8.0,
                 mocov2_images_per_second=2.0),
    ),
    'run': (
        dict(photos='data/x', minutes=5, iters=None, pretrain_iters=30),
        dict(retod=dict(plain=dict(AP=10.0, AP50=30.0, AP75=2.0),
                        tta=dict(AP=11.0), iters=40)),
    ),
    'export': (
        dict(model='FGL', config='x.py'),
        dict(images=20, torch=104, onnx=105, matches=103, box=0.0123,
             score=1.2e-6),
    ),
}  # fmt: skip


def test_cost_of_pretraining(clone):
    """By hand: F = 3 x 2 + 4 = 10 GFLOPs, so 7.8 G images at 78 TFLOP/s."""
    cost = dict(
        view_size=8, rois=2, params=10**6, student_flops=2e9, teacher_flops=4e9
    )
    content = dict(
        a_file({}), kind='speed', settings=dict(pretrain_batch=64, crop=8),
        metrics=dict(pretrain_cost={'retod_r50-fpn': [cost]}),
        command='python tools/benchmarks/speed.py --out DIR',
    )  # fmt: skip
    clone.keep('x', content)
    (cost_row,) = (
        line
        for line in render(
            'pretrain-cost', read_kept(clone.results), {}
        ).split('\n')
        if 'retod' in line
    )
    assert cost_row == (
        '| `retod_r50-fpn` | 8 px | 2 | 1.0 M | 2 GFLOPs | 4 GFLOPs | '
        '10 GFLOPs | 4 MB |'
    )
    rates = dict(retod=500.0)
    content.update(
        machine=dict(GPUs='X1'),
        metrics=dict(pretrain_images_per_second=rates, pretrain_ratio={}),
    )
    clone.keep('y', content)
    rates['retod'] = 400.0  # of older code: slower
    clone.keep('z', content)
    text = render('pretrain-plan', read_kept(clone.results), {})
    # 500 images of 10 GFLOPs a second
    assert 'u = 5 TFLOP/s (of one X1, fp32, 8 px: 500 images/s)' in text
    assert '| 1 | – | – | 7,800 | 51 min | 500 | 13 h |' in text
    # 64 images in 8.2 ms and 7 MB in 0.035 ms
    assert '| 8, one node | 200 GB/s | 7 MB | 62,100 | 6 min |' in text
    content['settings'] = dict(content['settings'], crop=9)
    clone.keep('y', content)
    with pytest.raises(ValueError, match='counts retod_r50-fpn at 9 px'):
        render('pretrain-plan', read_kept(clone.results), {})


@pytest.mark.parametrize(
    ('kind', 'name', 'row'),
    [
        ('speed', 'speed', '| 0.500 | not yet measured |'),
        ('speed', 'speed-pretrain', '| 2.00 | 4.00 (0.50) |'),
        ('tta', 'tta', '| `x`, flip | 10.0, 1.00 x | – | – | 12.0, 2.50 x'),
        ('syncs', 'syncs', '| step | pretended | 3 | 1 | 4 |'),
        ('faults', 'faults', '| 0123456 | 1 of 1 | 2 of 3 |'),
        ('pipeline', 'pipeline', '| 0123456 | 8 | 2 | 4.0 |'),
        (
            'run',
            'run',
            '| data/x, 5 min, 2 CPU cores: `retod` | 30 + 40 | 10.0 | 30.0 | '
            '2.0 | 11.0 |',
        ),
        (
            'export',
            'export',
            '| FGL, x.py | 20 | 104 | 105 | 103 | 0.01 | 1e-06 |',
        ),
    ],
)
def test_tables_of_other_kinds(clone, kind, name, row):
    settings, metrics = OTHERS[kind]
    content = dict(
        a_file({}), kind=kind, settings=settings, metrics=metrics,
        command=f'python tools/benchmarks/{kind}.py --out DIR',
        machine=dict(cores='2', GPUs='none'),
    )  # fmt: skip
    if kind in SUBCOMMANDS:
        content['command'] = f'mmfgl {kind} x'
    assert render(name, read_kept(clone.results), {}) == 'Not yet measured.'
    clone.keep('x', content)
    assert row in render(name, read_kept(clone.results), {})
