import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmfgl.testing.layouts import write_roboflow
from mmfgl.utils.formats import read_dataset
from tests.test_utils.test_formats.known_boxes import (
    NAMES,
    assert_same,
    make_content,
    rows_of,
    write_json,
)


def test_folders_and_files_named_after_splits(coco_root, parts):
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    assert dataset.classes == NAMES
    assert dataset.notes == []
    assert dataset.layout.startswith('COCO: ')
    assert dataset.splits['train'].root == str(coco_root / 'train')


@pytest.mark.parametrize(
    'name, images',
    [('instances_{}2017.json', '{}2017'), ('{}.json', 'images/{}')],
)
def test_other_names(coco_root, parts, name, images):
    annotations = coco_root / 'annotations'
    for part in parts:
        old = annotations / f'{part}.json'
        old.rename(annotations / name.format(part))
        target = coco_root / images.format(part)
        target.parent.mkdir(exist_ok=True)
        (coco_root / part).rename(target)
    write_json(annotations / 'captions_train2017.json', {})
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    (note,) = dataset.notes
    assert note.endswith('files not read: captions_train2017.json')
    assert_same(read_dataset(coco_root, annotations).splits, parts)


def test_one_folder_and_one_file(parts, tmp_path):
    path = tmp_path / 'labels.json'
    write_json(path, parts['train'].content)
    split = parts['train']
    dataset = read_dataset(split.root, path)
    assert_same(dataset.splits, {'train': split})
    shutil.copytree(split.root, tmp_path / 'photos')
    shutil.copy(path, tmp_path / 'photos')
    dataset = read_dataset(tmp_path / 'photos')
    assert_same(dataset.splits, {'train': split})


def test_roboflow(parts, tmp_path):
    root = write_roboflow(tmp_path / 'export', parts)
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert dataset.classes == NAMES
    assert dataset.layout.startswith('Roboflow')
    assert "category 0, 'objects', groups the others" in dataset.notes[0]
    # a part alone, which becomes the one to train on
    dataset = read_dataset(root / 'valid')
    assert_same(dataset.splits, {'train': parts['val']})
    assert "'val': taken as train" in dataset.notes[0]


def test_a_category_0_with_objects_stays(coco_root, parts):
    for part in parts:
        path = coco_root / 'annotations' / f'{part}.json'
        content = json.loads(path.read_text())
        for thing in content['categories']:
            thing.update(id=thing['id'] - 1, supercategory='disc')
        for ann in content['annotations']:
            ann['category_id'] -= 1
        write_json(path, content)
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    assert dataset.classes == NAMES


def test_categories_are_shared(coco_root, parts):
    content = make_content('val')
    content['categories'] = [
        dict(id=7, name='no'),
        dict(id=3, name='late'),
        dict(id=1, name='disc'),
    ]
    for ann, category in zip(content['annotations'], (7, 3), strict=True):
        ann['category_id'] = category
    write_json(coco_root / 'annotations' / 'val.json', content)
    dataset = read_dataset(coco_root)
    assert dataset.classes == (*NAMES, 'late')
    train, val = (s.content['categories'] for s in dataset.splits.values())
    assert train == val
    assert [c['id'] for c in val] == [1, 2, 3, 4]
    assert [row[1] for row in rows_of(dataset.splits['val'])] == ['no', 'late']
    assert any("'late' is not listed by train" in n for n in dataset.notes)


def test_images_elsewhere_are_found_by_name(coco_root, parts):
    content = make_content('train')
    for image in content['images']:
        image['file_name'] = 'C:\\upload\\' + image['file_name']
    write_json(coco_root / 'annotations' / 'train.json', content)
    shutil.copytree(coco_root / 'train', coco_root / 'deep' / 'er')
    val = shutil.copytree(coco_root / 'val', coco_root / 'copied')
    (coco_root / 'val').unlink()
    Path(val).rename(coco_root / 'val')  # which may be written to
    (coco_root / 'train').unlink()
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    (note,) = dataset.notes
    assert 'in another folder than the JSON says: 3; found there' in note
    shutil.copytree(coco_root / 'deep', coco_root / 'copy')
    with pytest.raises(ValueError, match='several files of the name'):
        read_dataset(coco_root)
    # an image of val may have the same name
    for place in ('deep', 'copy'):
        shutil.rmtree(coco_root / place)
    for name in ('a.jpg', 'b.png', 'c.jpg'):
        Image.new('RGB', (64, 48)).save(coco_root / 'val' / name)
    with pytest.raises(ValueError, match='images without a file in .*: 3'):
        read_dataset(coco_root)


def test_images_without_file_are_left_out_and_told(coco_root, parts):
    folder = coco_root / 'train'
    target = shutil.copytree(folder, coco_root / 'images' / 'train')
    folder.unlink()
    (target / 'a.jpg').unlink()
    (target / 'c.jpg').write_bytes(b'no image')
    dataset = read_dataset(coco_root)
    train = dataset.splits['train'].content
    assert [image['file_name'] for image in train['images']] == ['b.png']
    assert len(train['annotations']) == 2
    notes = '\n'.join(dataset.notes)
    assert "images without a file: 1 ('a.jpg')" in notes
    assert "files that are no readable image: 1 ('c.jpg'" in notes
    assert '2 images without a readable file are left out, and thei' in notes


def change_train(coco_root, function):
    content = make_content('train')
    function(content)
    write_json(coco_root / 'annotations' / 'train.json', content)


def normalise(content):
    for ann in content['annotations']:
        ann['bbox'] = [value / 128 for value in ann['bbox']]


def mirror_size(content):
    image = content['images'][0]
    image.update(width=image['height'], height=image['width'])


@pytest.mark.parametrize(
    'change, message',
    [
        (normalise, 'coordinates lie between 0 and 1'),
        (mirror_size, "a.jpg' is 64 x 48, the labels say 48 x 64"),
        (lambda c: c['annotations'].clear(), 'the file has no object'),
        (lambda c: c['categories'][0].pop('id'), 'without a usable id'),
    ],
)
def test_misread_boxes_are_errors(coco_root, change, message):
    change_train(coco_root, change)
    with pytest.raises(ValueError, match=message) as error:
        read_dataset(coco_root)
    assert 'annotations/train.json' in str(error.value)


def test_exif_orientation(coco_root, parts):
    folder = shutil.copytree(coco_root / 'train', coco_root / 'turned')
    (coco_root / 'train').unlink()
    (coco_root / 'turned').rename(coco_root / 'train')
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (48, 64)).save(coco_root / 'train/a.jpg', exif=exif)
    assert folder.name == 'turned'
    assert_same(read_dataset(coco_root).splits, parts)  # boxes of the turned
    change_train(coco_root, mirror_size)
    with pytest.raises(ValueError, match='EXIF orientation turns'):
        read_dataset(coco_root)


def test_boxes_that_leave_their_image_are_told(coco_root):
    def move(content):
        content['annotations'][0]['bbox'][0] = 60

    change_train(coco_root, move)
    (note,) = read_dataset(coco_root).notes
    assert 'boxes that leave their image by more than 2 px: 1' in note
    assert 'annotations/train.json: ' in note


def test_two_files_of_a_split_or_unnamed_ones(coco_root, tmp_path, parts):
    annotations = coco_root / 'annotations'
    shutil.copy(annotations / 'val.json', annotations / 'instances_val.json')
    with pytest.raises(ValueError, match='hold the labels of val'):
        read_dataset(coco_root)
    folder = tmp_path / 'unnamed'
    folder.mkdir()
    for name in ('one', 'two'):
        write_json(folder / f'{name}.json', make_content('train'))
    write_json(folder / 'settings.json', {'a': 1})
    with pytest.raises(ValueError, match='several COCO JSONs, one.json, two'):
        read_dataset(folder)


def test_nothing_or_too_much_recognised(tmp_path, coco_root):
    with pytest.raises(ValueError) as error:
        read_dataset(tmp_path / 'coco' / 'train')
    for word in ('annotations/train.json', 'data.yaml', '.coco.json', 'VOC'):
        assert word in str(error.value)
    (coco_root / 'data.yaml').write_text('names: [a]\ntrain: train\n')
    with pytest.raises(ValueError, match='looks like COCO and YOLO'):
        read_dataset(coco_root)
    with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
        read_dataset(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match='give the folder of the photo'):
        read_dataset(coco_root / 'annotations' / 'train.json')


def test_names_that_differ_in_case(coco_root):
    def rename(content):
        content['categories'][1]['name'] = 'Disc'

    change_train(coco_root, rename)
    notes = read_dataset(coco_root).notes
    assert any("'disc' and 'Disc'; if they are one" in n for n in notes)
