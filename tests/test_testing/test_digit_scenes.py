import json
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

pytest.importorskip('sklearn')
pytest.importorskip('skimage')

from mmfgl.testing import digit_scenes_render as render  # noqa: E402
from mmfgl.testing import digit_scenes_sources as sources  # noqa: E402
from mmfgl.testing.data import tiny_coco  # noqa: E402
from mmfgl.testing.digit_scenes import build_digit_scenes  # noqa: E402
from tools.dataset_converters import digit_scenes as tool  # noqa: E402


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return tiny_coco(tmp_path_factory.mktemp('scenes') / 'data')


def snapshot(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


@pytest.mark.parametrize('split, count', [('train', 4), ('val', 2)])
def test_annotations_are_valid_coco(root, split, count):
    coco = COCO(str(root / 'annotations' / f'{split}.json'))
    names = [c['name'] for c in coco.loadCats(range(1, 11))]
    assert names == list('0123456789')
    assert len(coco.imgs) == count
    for image in coco.imgs.values():
        picture = cv2.imread(str(root / split / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3)
        annotations = coco.loadAnns(coco.getAnnIds(image['id']))
        assert 1 <= len(annotations) <= 8
        covered = np.zeros(picture.shape[:2], int)
        for annotation in annotations:
            mask = coco.annToMask(annotation)
            x, y, w, h = annotation['bbox']
            assert cv2.boundingRect(mask) == (x, y, w, h)
            assert annotation['area'] == w * h >= mask.sum() > 0
            assert annotation['iscrowd'] == 0
            covered += mask
        assert covered.max() == 1  # masks hold visible pixels only


def test_pictures_depend_on_the_seed_not_on_counts(root, tmp_path):
    again = snapshot(tiny_coco(tmp_path / 'again'))
    more = snapshot(tiny_coco(tmp_path / 'more', num_images=5))
    other = snapshot(tiny_coco(tmp_path / 'other', seed=1))
    assert snapshot(root) == again
    counts = dict(train=4, val=2, unlabelled=4)
    files = [f'{s}/{i:06d}.jpg' for s in counts for i in range(counts[s])]
    files += ['annotations/train.json', 'annotations/val.json']
    assert set(again) == {*files, 'README.md', 'settings.json'}
    name = 'train/000003.jpg'
    assert more[name] == again[name] != other[name]
    pictures = [data for file, data in again.items() if file.endswith('jpg')]
    assert len(set(pictures)) == len(pictures) == 10


def test_val_shares_no_digit_and_no_background():
    train, val = (set(v.split()) for v in sources.BACKGROUNDS.values())
    assert not train & val
    train, val = map(sources.load_digits_of, ('train', 'val'))
    assert min(len(group) for group in (*train, *val)) > 20
    train, val = ({d.tobytes() for g in x for d in g} for x in (train, val))
    assert not train & val and len(train | val) == 1797


def test_digits_are_visible_and_stand_out_from_their_surroundings():
    contrasts = []
    for index in range(20):
        rng = np.random.default_rng([11, index])
        image, instances = render.render_scene(rng, 'train', 160, 120)
        assert image.shape == (120, 160, 3) and image.dtype == np.uint8
        assert len(instances) >= 2
        lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)
        digits = np.any([i.visible for i in instances], axis=0)
        for instance in instances:
            share = instance.visible.sum() / instance.full_area
            assert render.MIN_VISIBLE <= share <= 1
            mask = instance.visible.astype(np.uint8)
            ring = cv2.dilate(mask, np.ones((9, 9))).astype(bool) & ~digits
            if ring.sum() < 20:
                continue
            inside = np.median(lab[instance.visible], axis=0)
            outside = np.median(lab[ring], axis=0)
            contrasts.append(np.linalg.norm(inside - outside))
    assert len(contrasts) > 40
    assert np.percentile(contrasts, 5) > 20
    assert render.MAX_BOX_IOU < 0.5  # else NMS would drop a true object


def test_digit_is_rendered_at_the_asked_size():
    digit = sources.load_digits_of('train')[8][0]
    for seed, height in enumerate([16, 60, 140] * 10):
        alpha = render.render_digit(np.random.default_rng(seed), digit, height)
        assert alpha.min() >= 0 and alpha.max() == 1
        assert 0.75 * height < alpha.shape[0] < 1.4 * height


def test_second_run_finds_the_set(root, capsys):
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    arguments = ['--out', str(root), '--train', '4', '--val', '2']
    tool.main([*arguments, '--unlabelled', '4', '--size', '128x96'])
    assert 'already there' in capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob('*')}


def test_other_settings_and_a_damaged_set_need_force(root, tmp_path):
    out = tiny_coco(tmp_path / 'data')
    (out / 'train' / '000001.jpg').unlink()
    with pytest.raises(FileExistsError, match='incomplete or changed'):
        tiny_coco(out)
    build_digit_scenes(out, 4, 2, 4, size=(128, 96), force=True)
    assert snapshot(out) == snapshot(root)
    (out / 'notes.txt').write_text('mine')
    with pytest.raises(FileExistsError, match='seed 0 there, 3 wanted'):
        tiny_coco(out, seed=3)
    settings = build_digit_scenes(out, 3, 0, 0, (64, 48), seed=3, force=True)
    assert settings == json.loads((out / 'settings.json').read_text())
    assert len(list(out.glob('*/*.jpg'))) == 3
    assert (out / 'notes.txt').read_text() == 'mine'


def test_foreign_folder_is_never_touched(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'photo.jpg').write_bytes(b'precious')
    with pytest.raises(SystemExit, match='will not be touched'):
        tool.main(['--out', str(tmp_path), '--force'])
    assert snapshot(tmp_path) == {'train/photo.jpg': b'precious'}


def test_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    fail = Mock(side_effect=OSError('disk full'))
    monkeypatch.setattr('mmfgl.testing.digit_scenes.render_scene', fail)
    with pytest.raises(OSError, match='disk full'):
        tiny_coco(tmp_path / 'data')
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(FileNotFoundError, match='no_such.png'):
        sources.background_path('skimage/data/no_such.png')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(ImportError, match='skimage is missing.*pip install'):
        sources.background_path('skimage/data/coffee.png')


def test_wrong_arguments(tmp_path, capsys):
    for name, value in dict(train=0, val=-1, seed=-1, size=(20, 20)).items():
        with pytest.raises(ValueError, match='must be'):
            build_digit_scenes(tmp_path / 'data', **{name: value})
    assert not (tmp_path / 'data').exists()
    with pytest.raises(SystemExit):
        tool.parse_args(['--size', '320'])
    assert 'expected WIDTHxHEIGHT' in capsys.readouterr().err
