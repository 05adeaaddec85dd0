import json
import shutil

import cv2
import numpy as np
import pytest

from mmfgl.recipes import predicting
from mmfgl.recipes.predicting import find_names, predict


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for name, size in (('a.png', (60, 90)), ('sub/a.png', (90, 60))):
        (root / name).parent.mkdir(exist_ok=True)
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        cv2.imwrite(str(root / name), image)
    (root / 'broken.jpg').write_bytes(b'\xff\xd8 no image')
    (root / 'notes.txt').touch()
    return root


@pytest.mark.parametrize('tta', [False, True])
def test_pictures_and_predictions(run_dir, images, tmp_path, capsys, tta):
    content = predict(run_dir, images, out=tmp_path, tta=tta)
    assert content == json.loads((tmp_path / 'predictions.json').read_text())
    sizes = {
        i['file_name']: (i['width'], i['height']) for i in content['images']
    }
    assert sizes == {'a.png': (90, 60), 'sub/a.png': (60, 90)}
    assert list(content['unreadable']) == ['broken.jpg']
    shown = capsys.readouterr().out
    assert 'unreadable: broken.jpg: ' in shown and '1 unreadable' in shown
    # the ids of the run's annotations, whatever their order
    ids = {c['name']: c['id'] for c in content['categories']}
    assert ids == dict(cell=13, nucleus=12, thing=11)
    assert content['score_thr'] == (0.02 if tta else 0.01)
    assert content['annotations']
    numbers = {image['id']: image for image in content['images']}
    for found in content['annotations']:
        image, (x, y, w, h) = numbers[found['image_id']], found['bbox']
        assert 0 <= x <= x + w <= image['width'] + 0.1
        assert 0 <= y <= y + h <= image['height'] + 0.1
        assert found['score'] >= content['score_thr'] - 1e-4
        assert found['category_id'] in ids.values()
    for name, (width, height) in sizes.items():
        picture = cv2.imread(str(tmp_path / 'pictures' / name))
        assert picture.shape == (height, width, 3)
        assert (picture != cv2.imread(str(images / name))).any()


def test_look_alikes_in_one_place_are_shown_once(run_dir, images, tmp_path):
    content = predict(run_dir, images / 'a.png', out=tmp_path, score_thr=0.0)
    boxes = np.array([found['bbox'] for found in content['annotations']])
    boxes[:, 2:] += boxes[:, :2]
    from mmdet.evaluation.functional import bbox_overlaps

    ious = bbox_overlaps(boxes, boxes) - np.eye(len(boxes))
    assert len(boxes) > 1 and ious.max() <= 0.61
    assert content['images'][0]['file_name'] == 'a.png'


def test_names_of_a_folder_a_file_and_a_pattern(images):
    out = images / 'out'
    root, names = find_names(images, out)
    assert names == ['a.png', 'broken.jpg', 'sub/a.png']
    # what an earlier call has written is no photograph
    (out / 'pictures').mkdir(parents=True)
    shutil.copy(images / 'a.png', out / 'pictures')
    assert find_names(images, out)[1] == names
    # nor what it has written elsewhere
    (out / 'predictions.json').touch()
    assert find_names(images, images / 'out2')[1] == names
    assert find_names(images / 'sub', images / 'sub')[1] == ['a.png']
    with pytest.raises(FileNotFoundError, match='which this command writes'):
        find_names(out / 'pictures', out)
    shutil.rmtree(out)
    root, names = find_names(images / 'sub' / 'a.png', out)
    assert (root, names) == (str(images / 'sub'), ['a.png'])
    root, names = find_names(f'{images}/**/*', out)
    assert names == ['a.png', 'broken.jpg', 'sub/a.png']
    for wrong in ('nowhere', '*.png', 'notes'):
        with pytest.raises(FileNotFoundError, match='no image found in'):
            find_names(images / 'empty' / wrong, out)


def test_an_interruption_keeps_what_was_found(
    run_dir, images, tmp_path, monkeypatch, capsys
):
    read = predicting.read_image

    def stopped(path):
        if 'sub' in path:
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setattr(predicting, 'read_image', stopped)
    with pytest.raises(KeyboardInterrupt):
        predict(run_dir, images, out=tmp_path)
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert [image['file_name'] for image in content['images']] == ['a.png']
    assert content['annotations'] and list(content['unreadable'])
    assert 'ended early: 1 of 3 images done' in capsys.readouterr().out


def test_names_that_matplotlib_would_take_for_formulas(
    run_dir, images, tmp_path
):
    run = shutil.copytree(run_dir, tmp_path / 'run')
    for name in ('configs/retod.py', 'data/annotations/val.json'):
        text = (run / name).read_text()
        (run / name).write_text(text.replace('thing', 'a$_$b'))
    content = predict(run, images / 'a.png', out=tmp_path, score_thr=0)
    names = {c['id']: c['name'] for c in content['categories']}
    shown = {names[row['category_id']] for row in content['annotations']}
    assert 'a$_$b' in shown
    assert (tmp_path / 'pictures/a.png').is_file()


def test_what_is_wrong_is_told(run_dir, images, tmp_path):
    with pytest.raises(ValueError, match=r'--score-thr must lie in \[0, 1\]'):
        predict(run_dir, images, out=tmp_path, score_thr=2)
    with pytest.raises(ValueError, match='none of the 1 images can be read'):
        predict(run_dir, images / 'broken.jpg', out=tmp_path)
    with pytest.raises(FileNotFoundError, match='finished `mmfgl run`'):
        predict(images, images, out=tmp_path)
    assert not (tmp_path / 'predictions.json').exists()
