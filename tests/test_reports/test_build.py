import json
import re
import shutil

import pytest
from mmdet.datasets.api_wrappers import COCO

from mmfgl.cli import report as command
from mmfgl.reports import report
from mmfgl.reports.build import same_data
from mmfgl.reports.runs import find_runs


def test_sections(page, hostile):
    text = page.with_suffix('.md').read_text()
    assert re.findall('^## (.*)$', text, re.M) == [
        *('Results', 'Curves', 'Classes', 'Errors', 'Confusions'),
        *('Detections', 'Settings', 'Machine and versions', 'Commands'),
        'Configs',
    ]
    assert '# Report: a&lt;u>run' in text
    assert '3 tests on 10 images with 18 objects of 3 classes; 3 tr' in text
    row = '| test-retod-tta | TTA | 60.0 | – | – | – | – | – | 50.0 '
    assert row + '| 20 iterations | 1.0 |' in text
    # the pretraining has no AP, what was tested stands among settings alone
    names = re.findall(r'^\| (retod|imagenet|pretrain) \|', text, re.M)
    assert sorted(names) == ['imagenet', 'pretrain', 'retod']
    for name in ('cat', hostile, '猫'):
        name = name.replace('&', '&amp;').replace('<', '&lt;')
        assert f'| {name} | 6 |' in text
    assert 'python tools/test.py test-retod-tta <x>' in text
    # 9 of 18 objects are found, and one where there is none
    assert '| test-retod-plain | 0.81 | 64.3 | 90.0 | 50.0 |' in text
    assert '| Python | 3.11 |' in text


def test_page(page, hostile):
    text = page.read_text()
    assert hostile not in text and '<script>alert' not in text
    assert text.count('<img src=') == 8 * 3  # truth and two checkpoints
    assert text.count('<svg') == 5
    assert 'test-retod-tta' in text
    assert 'Of each checkpoint the test of highest AP is drawn' in text


def test_one_training(run_folder, tmp_path):
    page = report([run_folder / 'retod'], tmp_path)
    text = page.with_suffix('.md').read_text()
    assert '| retod | val, while training | 20.0 | 20 iterations |' in text
    assert 'No test among these runs' in text
    assert 'Detections' not in text


def test_each_data_set_has_a_table(tmp_path, write):
    for name in ('one', 'two'):
        write.dataset(tmp_path / name)
    runs = tmp_path / 'runs'
    for number, name in enumerate(('one', 'one', 'two')):
        checkpoint = runs / f'{number}/iter_20.pth'
        write.test(runs / f'test{number}', tmp_path / name, checkpoint, number)
    write.training(runs / 'more', tmp_path / 'two')
    page = report(runs, tmp_path)
    text = page.with_suffix('.md').read_text()
    tables = re.findall(r'((?:^\|.*plain.*\n|^\|.*while.*\n)+)', text, re.M)
    names = [re.findall(r'^\| (\w+) ', table, re.M) for table in tables[:2]]
    assert names == [['test0', 'test1'], ['test2', 'more']]
    assert f'On {tmp_path}/two/val.json. Box AP' in text
    best = re.findall(r' best" [^>]*>([456]0\.0)<', page.read_text())
    # 50 ms of test0, AP and 50 ms of test1, AP of test2
    assert best == ['50.0', '50.0', '50.0', '60.0']
    # other labels of the same images are other data
    path = tmp_path / 'one/val.json'
    content = json.loads(path.read_text())
    content['annotations'].pop()
    (tmp_path / 'one/new.json').write_text(json.dumps(content))
    tests = [find_runs([runs / f'test{i}']).tests[0] for i in (0, 1)]
    tests[1].results.coco = COCO(str(tmp_path / 'one/new.json'))
    assert len(same_data(tests)) == 2


def test_a_training_that_was_interrupted(run_folder, tmp_path):
    folder = shutil.copytree(run_folder / 'retod', tmp_path / 'retod')
    (folder / 'last_checkpoint').write_text('there/iter_10.pth')
    text = report([folder], tmp_path).with_suffix('.md').read_text()
    assert '| 10 of 20 iterations |' in text


def test_transfer(tmp_path):
    arm = dict(AP=[30.0, 31.0], APs=[None, None], pretrain_seconds=60)
    arm |= dict(images_seen=99)
    other = arm | dict(AP=[32.0])
    content = dict(arms=dict(none=arm, retod=other))
    content |= dict(settings=dict(seeds=2, arms=['a'], machine=dict(cores=2)))
    content |= dict(data_sets=dict(bccd=dict(arms=dict(none=arm))))
    (tmp_path / 'results.json').write_text(json.dumps(content))
    text = report(tmp_path).with_suffix('.md').read_text()
    row = '| none | 30.5 | 0.7 | – | – | – | – | – | 2 | 60.0 | 99 |'
    assert text.count(row) == 2
    assert 'Mean of the data sets.' in text and 'bccd. Box AP' in text
    assert '| cores | 2 |' in text


def test_a_damaged_photograph_is_left_out(tmp_path, write):
    write.dataset(tmp_path / 'photos', num_images=3)
    write.test(tmp_path / 'test', tmp_path / 'photos', 'x.pth', num_images=3)
    photo = tmp_path / 'photos/val/<i>1.png'
    photo.write_bytes(photo.read_bytes()[:200])
    page = report(tmp_path / 'test')
    text = page.with_suffix('.md').read_text()
    assert '1 of the photographs to show cannot be read' in text
    assert '1.png: no image, or a damaged one' in text
    assert page.read_text().count('<img src=') == 2  # of the other one


def test_arm_of_another_program(tmp_path):
    """LightlyTrain leaves a curve of its loss, and no config."""
    arm = dict(AP=[30.0], pretrain_seconds=60, images_seen=99)
    content = dict(arms=dict(lightly=arm), settings=dict(seeds=1))
    (tmp_path / 'results.json').write_text(json.dumps(content))
    log = tmp_path / 'pretrain/lightly/run/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "loss": 2.0}\n')
    text = report(tmp_path).with_suffix('.md').read_text()
    assert '| lightly (pretraining) | – |' in text


def test_changed_annotations(run_folder, tmp_path):
    folder = tmp_path / 'test'
    folder.mkdir()
    for path in (run_folder / 'test-retod-plain').iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / 'predictions.bbox.json').write_text(
        json.dumps([dict(image_id=99, category_id=10)])
    )
    with pytest.raises(ValueError, match=r'1 images that .*val\.json does'):
        report(folder)


def test_command(run_folder, tmp_path, capsys):
    import argparse

    parser = argparse.ArgumentParser(description=command.__doc__)
    command.add_arguments(parser)
    dirs = [str(run_folder / name) for name in ('retod', 'imagenet')]
    command.main(parser.parse_args([*dirs, '--out', str(tmp_path)]))
    path = tmp_path / 'report.html'
    assert capsys.readouterr().out == f'{path}\n'
    assert 'retod, imagenet' in path.read_text()


def test_a_run_that_was_copied(tmp_path, write, capsys):
    photos, old = tmp_path / 'photos', tmp_path / 'old'
    write.dataset(photos, num_images=2)
    test = old / 'run/test-retod-plain'
    ann_file = old / 'run/data/val.json'
    write.training(old / 'run/retod', photos)
    write.test(
        *(test, photos, old / 'run/retod/iter_20.pth'),
        num_images=2,
        work_dir=str(test),
        test_evaluator=dict(type='CocoMetric', ann_file=str(ann_file)),
    )
    ann_file.parent.mkdir()
    shutil.copy(photos / 'val.json', ann_file)
    moved = tmp_path / 'new/other'
    shutil.copytree(old / 'run', moved)
    ann_file.write_text('{}')  # another run is there by now
    page = report(moved)
    text = page.with_suffix('.md').read_text()
    # the training of the copy, without its checkpoint, is that of the test
    assert re.search(r'test-retod-plain .*20 iterations', text)
    assert 'val, while training' not in text
    assert page.read_text().count('<img src=') == 2
    capsys.readouterr()
    shutil.rmtree(old)
    shutil.rmtree(photos)
    text = report(moved).read_text()
    assert '<img src=' not in text
    line = '1 of the photographs to show cannot be read and are '
    line += f'left out ({photos}/val/'
    assert line in capsys.readouterr().out
    assert '1 of the photographs to show cannot be read' in text
    (moved / 'data/val.json').unlink()
    with pytest.raises(FileNotFoundError, match='names the annotation file'):
        report(moved)
