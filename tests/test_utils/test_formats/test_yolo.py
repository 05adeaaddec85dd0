import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmfgl.testing.layouts import write_yolo
from mmfgl.utils.formats import read_dataset
from tests.test_utils.test_formats.known_boxes import (
    NAMES,
    assert_same,
    rows_of,
)


@pytest.fixture
def root(parts, tmp_path) -> Path:
    return write_yolo(tmp_path / 'yolo', parts).parent


@pytest.fixture
def label(root) -> Path:
    """The label of a.jpg, 64 x 48 px."""
    return root / 'labels' / 'train' / 'a.txt'


@pytest.mark.parametrize('roboflow', [False, True])
def test_both_layouts(parts, tmp_path, roboflow):
    source = write_yolo(tmp_path / 'yolo', parts, roboflow)
    dataset = read_dataset(source.parent)
    assert_same(dataset.splits, parts)
    assert dataset.classes == NAMES
    assert dataset.layout == f'YOLO: {source}'
    # Roboflow's entries begin at the wrong folder
    told = ["train is '../train/images': found", 'val is ']
    assert len(dataset.notes) == len(told) * roboflow
    assert all(t in n for t, n in zip(told, dataset.notes))
    assert_same(read_dataset(source).splits, parts)
    assert_same(read_dataset(source.parent, source).splits, parts)


def test_reading_writes_nothing_and_finds_what_has_no_label(root):
    more = root / 'images' / 'ünlabelled.PNG'
    Image.new('RGB', (9, 9)).save(more)
    before = sorted(root.rglob('*'))
    dataset = read_dataset(root)
    assert sorted(root.rglob('*')) == before
    assert not dataset.notes
    assert len(dataset.all_photos()) == 6
    assert dataset.unlabelled() == [str(more)]


@pytest.mark.parametrize('name', ['microcontrollers'])
def test_real_photographs(name, tmp_path):
    if 'MMFGL_DATA_ROOT' not in os.environ:
        pytest.skip('MMFGL_DATA_ROOT is not set')
    dataset = read_dataset(Path(os.environ['MMFGL_DATA_ROOT'], name))
    for roboflow in (False, True):
        out = tmp_path / f'yolo{roboflow}'
        source = write_yolo(out, dataset.splits, roboflow)
        again = read_dataset(source.parent)
        assert_same(again.splits, dataset.splits)
        assert again.classes == dataset.classes
        photos = len(list((source.parent).rglob('*.jpg')))
        assert len(again.all_photos()) == photos == 149


def rewrite(root, old, new):
    source = root / 'data.yaml'
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    'path, told',
    [
        ('{root}', False),
        ('.', False),
        ('../yolo', False),
        ('../datasets/coco8', True),
        ('/content/drive/MyDrive/coco8', True),
        ('C:\\Users\\me\\yolo', True),
    ],
)
def test_path_of_data_yaml(root, parts, path, told, monkeypatch):
    monkeypatch.chdir('/')
    rewrite(root, 'train:', f'path: {path.format(root=root)}\ntrain:')
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert [bool(told)] * 2 * told == ['found at' in n for n in dataset.notes]


def test_absolute_entries_of_another_machine(root, parts):
    rewrite(root, 'train: images/train', 'train: /home/me/yolo/images/train')
    assert_same(read_dataset(root).splits, parts)
    # images/ would hold the images of train and val
    rewrite(root, '/home/me/yolo/images/train', '/home/me/images')
    with pytest.raises(ValueError, match="train is '/home/me/images', which"):
        read_dataset(root)


@pytest.mark.parametrize('start', ['./', '', 'absolute'])
def test_lists_of_images(root, parts, start):
    base = f'{root}/' if start == 'absolute' else start
    for part in parts:
        names = sorted(os.listdir(root / 'images' / part))
        lines = [f'{base}images/{part}/{name}\n' for name in names]
        (root / f'{part}.txt').write_text(''.join(lines))
        rewrite(root, f'images/{part}', f'{part}.txt')
    assert_same(read_dataset(root).splits, parts)
    (root / 'images' / 'train' / 'c.jpg').unlink()
    notes = read_dataset(root).notes
    assert 'images that are listed and missing: 1; left out' in notes[0]
    assert 'label files whose image is missing: 1' in notes[1]


def test_classes_txt_instead_of_data_yaml(root, parts):
    (root / 'data.yaml').unlink()
    with pytest.raises(ValueError, match='the classes have no names: write'):
        read_dataset(root)
    (root / 'classes.txt').write_text('\r\n'.join(NAMES) + '\r\n')
    assert_same(read_dataset(root).splits, parts)
    folders = (root / kind / 'train' for kind in ('images', 'labels'))
    assert_same(read_dataset(*folders).splits, {'train': parts['train']})


def test_labels_beside_images_as_labelimg_leaves_them(root, parts):
    folder = root / 'images' / 'train'
    for path in (root / 'labels' / 'train').iterdir():
        shutil.move(path, folder)
    (folder / 'classes.txt').write_text('\n'.join(NAMES))
    train = {'train': parts['train']}
    assert_same(read_dataset(folder).splits, train)


def test_labels_in_a_folder_of_their_own(root, parts, tmp_path):
    photos = root / 'images' / 'train'
    labels = shutil.move(root / 'labels' / 'train', tmp_path / 'mine')
    Path(labels, 'classes.txt').write_text('\n'.join(NAMES))
    dataset = read_dataset(photos, labels)
    assert_same(dataset.splits, {'train': parts['train']})
    Path(labels, 'classes.txt').rename(Path(labels, 'other.txt'))
    shutil.copy(root / 'data.yaml', tmp_path)
    assert read_dataset(photos, labels).classes == NAMES


def test_polygons_boxes_and_rounding(label, root):
    label.write_text(
        '0 0.25 0.25 0.75 0.25 0.5 0.5\n'  # a triangle
        '\n'
        '1.0 0.5 0.5 1.0009 1.0\n'
        '2\t0.5  0.5 0.25 0.25\n'
    )
    dataset = read_dataset(root)
    found = [r for r in rows_of(dataset.splits['train']) if r[0] == 'a']
    assert found == [
        ('a', 'disc', [16, 12, 32, 12]),
        ('a', 'square', [0, 0, 64, 48]),
        ('a', 'no', [24, 18, 16, 12]),
    ]
    (note,) = dataset.notes
    assert 'polygons: 1; the box around each is taken' in note
    assert f'{label}:1' in note


def test_keypoints_are_no_polygon(label, root):
    label.write_text('0 0.5 0.5 0.25 0.25 0.1 0.1 2 0 0 0\n')
    rewrite(root, 'train:', 'kpt_shape: [2, 3]\ntrain:')
    dataset = read_dataset(root)
    assert rows_of(dataset.splits['train'])[0][2] == [24, 18, 16, 12]
    notes = '\n'.join(dataset.notes)
    assert 'keypoints: 1; only the box is taken' in notes
    assert "without an object to learn from: 1 ('square')" in notes
    rewrite(root, '[2, 3]', 'many')
    with pytest.raises(ValueError, match='kpt_shape is no list of two'):
        read_dataset(root)


def test_repairs_are_told(label, root):
    text = '0 0.5 0.5 0.1 0.1\n'
    label.write_bytes(b'\xef\xbb\xbf' + (2 * text).encode())
    (label.parent / 'c.txt').unlink()
    (label.parent / 'gone.txt').write_text(text)
    dataset = read_dataset(root)
    assert len(dataset.splits['train'].content['images']) == 3
    assert len(dataset.splits['train'].content['annotations']) == 3
    notes = '\n'.join(dataset.notes)
    assert f'lines that are there twice: 1; taken once ({label}:2)' in notes
    assert 'without a label file: 1; taken as without objects' in notes
    gone = label.parent / 'gone.txt'
    assert f'whose image is missing: 1; left out ({gone})' in notes


def test_most_are_not_labelled_yet(label, root, parts):
    (label.parent / 'b.txt').unlink()
    (label.parent / 'c.txt').unlink()
    dataset = read_dataset(root)
    assert [Path(p).name for p in dataset.splits['train'].paths()] == ['a.jpg']
    assert_same({'val': dataset.splits['val']}, {'val': parts['val']})
    names = [Path(path).name for path in dataset.unlabelled()]
    assert names == ['b.png', 'c.jpg']
    notes = '\n'.join(dataset.notes)
    assert 'without a label file: 2; as most have none, for pre' in notes


def test_endings(label, root):
    label.rename(label.with_suffix('.TXT'))
    image = root / 'images/train/b.png'
    Image.open(image).save(image.with_name('b.jfif'), 'JPEG')
    image.unlink()
    dataset = read_dataset(root)
    assert {name for name, *_ in rows_of(dataset.splits['train'])} == {'b'}
    (note,) = (note for note in dataset.notes if 'rename' in note)
    assert f'not named .txt: 1; left out; rename them ({label.parent}' in note


@pytest.mark.parametrize(
    'line, message',
    [
        ('3 0.5 0.5 0.1 0.1', 'class ids out of range: 1; data.yaml names 3'),
        ('-1 0.5 0.5 0.1 0.1', 'class ids out of range'),
        ('0.5 0.5 0.5 0.1 0.1', 'class ids out of range'),
        ('1 30 20 10 12', 'outside 0 to 1: 1; YOLO labels are shares'),
        ('1 0.5 -0.01 0.1 0.1', 'outside 0 to 1'),
        ('1 0.5 nan 0.1 0.1', 'outside 0 to 1'),
        ('1 0.5 0.5 0.1 0.1 0.93', 'lines of 6 numbers, a prediction'),
        ('1 0.5 0.5 0.1', 'lines of 4 numbers: 1; a label is class cx'),
        ('disc 0.5 0.5 0.1 0.1', 'lines that are not numbers'),
    ],
)
def test_wrong_lines_are_errors_with_file_and_line(label, root, line, message):
    label.write_text(f'0 0.5 0.5 0.2 0.2\n{line}\n')
    with pytest.raises(ValueError, match=message) as error:
        read_dataset(root)
    assert f'{label}:2: {line}' in str(error.value)


def test_labels_and_images_that_do_not_match_one_to_one(label, root):
    images = root / 'images' / 'train'
    shutil.copy(label, images)
    with pytest.raises(ValueError, match='with two label files: 1') as error:
        read_dataset(root)
    assert f'{label} and {images / "a.txt"}' in str(error.value)
    (images / 'a.txt').unlink()
    Image.new('RGB', (64, 48)).save(images / 'a.png')
    with pytest.raises(ValueError, match='share a label file') as error:
        read_dataset(root)
    assert f'{images / "a.jpg"} and {images / "a.png"}' in str(error.value)


def test_classes_txt_that_is_no_utf_8(root):
    (root / 'data.yaml').unlink()
    (root / 'classes.txt').write_bytes('disc\ncarré\nno\n'.encode('latin-1'))
    with pytest.raises(ValueError, match=r'classes.txt: .*save it as UTF-8'):
        read_dataset(root)


def test_no_label_at_all(root, parts):
    shutil.rmtree(root / 'labels' / 'val')
    dataset = read_dataset(root)
    assert_same(dataset.splits, {'train': parts['train']})
    notes = '\n'.join(dataset.notes)
    assert 'no label file for any of 2 images' in notes
    assert 'val has no object: left out' in notes
    assert 'as most have none, left out;' in notes
    assert [Path(path).name for path in dataset.held_out] == ['d.jpg', 'e.jpg']
    assert not dataset.unlabelled()
    shutil.rmtree(root / 'labels' / 'train')
    with pytest.raises(ValueError, match='no label file for any of 3') as e:
        read_dataset(root)
    assert str(root / 'labels' / 'train' / 'a.txt') in str(e.value)


def test_exif_orientation_as_ultralytics_takes_it(root, parts):
    exif = Image.Exif()
    exif[0x0112] = 8
    path = root / 'images' / 'train' / 'a.jpg'
    Image.new('RGB', (48, 64)).save(path, exif=exif)  # upright 64 x 48
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert any(f'as Ultralytics does ({path})' in n for n in dataset.notes)


def test_val_that_is_train_or_overlaps(root, parts):
    shutil.copy(root / 'images/train/a.jpg', root / 'images/val/copy.jpg')
    rewrite(root, 'val: images/val', 'val: images/train')
    dataset = read_dataset(root)
    assert_same(dataset.splits, {'train': parts['train']})
    assert 'val is the images of train' in dataset.notes[0]
    rewrite(root, 'train: images/train', 'train: [images/train, images/val]')
    dataset = read_dataset(root)
    assert '3 images of val are in train too' in dataset.notes[-1]
    assert len(dataset.splits['train'].content['images']) == 6


def test_missing_val_is_told(root, parts):
    rewrite(root, 'val: images/val', 'val: ../valid/images\ntest:')
    dataset = read_dataset(root)
    assert_same(dataset.splits, {'train': parts['train']})
    assert "val is '../valid/images', which is nowhere" in dataset.notes[0]


@pytest.mark.parametrize(
    'text, message',
    [
        ('names: [a, b]\nnc: 3\ntrain: x', 'nc is 3, but names has 2'),
        ('names: [a, a]\ntrain: images/train', 'names a twice'),
        ('names: {0: a, 2: b}\ntrain: x', 'keys of names are not 0 to 1'),
        ('names: 3\ntrain: x', 'neither a list nor a dict'),
        ('names: [a\ntrain: x', 'is no YAML'),
        ('names: [a]\ntrain: x', "train is 'x', which is nowhere; looked"),
    ],
)
def test_wrong_data_yaml(root, text, message):
    (root / 'data.yaml').write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_dataset(root)
    assert str(root / 'data.yaml') in str(error.value)
