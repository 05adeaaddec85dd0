"""Parts of a data set that are missing, merged, shared or unusable."""

import json
import shutil

import pytest
from PIL import Image

from mmfgl.testing.layouts import write_roboflow, write_voc, write_yolo
from mmfgl.utils.formats import read_dataset
from tests.test_utils.test_formats.known_boxes import (
    NAMES,
    SIZES,
    assert_same,
    make_content,
    rows_of,
    write_json,
)

POINTER = 'version https://git-lfs.github.com/spec/v1\n'


@pytest.fixture
def voc(parts, tmp_path):
    return write_voc(tmp_path / 'voc', parts)


@pytest.fixture
def coco_copy(coco_root):
    """Images that may be written to."""
    for part in ('train', 'val'):
        folder = shutil.copytree(coco_root / part, coco_root / 'copy')
        (coco_root / part).unlink()
        folder.rename(coco_root / part)
    return coco_root


def notes_of(dataset):
    return '\n'.join(dataset.notes)


@pytest.mark.parametrize('labels', ['images', 'annotations'])
def test_voc_splits_below_another_folder(voc, parts, tmp_path, labels):
    root = tmp_path / 'tutorial'
    for part, folder in (('train', 'train'), ('val', 'test')):
        for kind in {'images', labels}:
            (root / kind / folder).mkdir(parents=True)
        for path in parts[part].paths():
            shutil.copy(path, root / 'images' / folder)
        for name in (path.stem for path in (voc / 'JPEGImages').iterdir()):
            if any((root / 'images' / folder).glob(f'{name}.*')):
                xml = voc / f'Annotations/{name}.xml'
                shutil.copy(xml, root / labels / folder)
    splits = dict(train=parts['train'], test=parts['val'])
    assert_same(read_dataset(root).splits, splits)
    (root / labels / 'test').rename(root / labels / 'more')
    dataset = read_dataset(root)
    assert list(dataset.splits) == ['train']
    told = '2 XML files in no folder named train, val or test'
    assert told in notes_of(dataset)


def test_roboflow_in_folders_of_other_names(parts, tmp_path):
    root = write_roboflow(tmp_path / 'export', parts)
    name = '_annotations.coco.json'
    shutil.copy(root / 'valid' / name, root)
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert f'{root / name}: in no folder named train' in dataset.notes[0]
    (root / name).unlink()
    (root / 'train').rename(root / 'part1')
    (root / 'valid').rename(root / 'part2')
    with pytest.raises(ValueError, match='in no folder named train') as error:
        read_dataset(root)
    for part in ('part1', 'part2'):
        assert str(root / part / name) in str(error.value)


def test_no_readable_image(coco_copy):
    for name in ('d.jpg', 'e.jpg'):
        (coco_copy / 'val' / name).write_text(POINTER)
    dataset = read_dataset(coco_copy)
    assert list(dataset.splits) == ['train']
    assert 'val has no object: left out' in notes_of(dataset)
    for path in (coco_copy / 'train').iterdir():
        path.write_text(POINTER)
    with pytest.raises(ValueError, match='no image is left') as error:
        read_dataset(coco_copy)
    text = str(error.value)
    assert 'annotations/train.json cannot be used' in text
    assert "no readable image: 3 ('a.jpg'" in text and 'git lfs' in text
    assert 'and their 4 objects' in text


def test_no_labelled_image_is_readable(coco_copy):
    for name in ('a.jpg', 'b.png'):  # c.jpg has no object
        (coco_copy / 'train' / name).write_text(POINTER)
    with pytest.raises(ValueError, match='no object is left') as error:
        read_dataset(coco_copy)
    assert "no readable image: 2 ('a.jpg'" in str(error.value)


def test_a_list_of_another_machine(parts, tmp_path):
    root = write_yolo(tmp_path / 'yolo', parts).parent
    (root / 'train.txt').write_text('/content/data/images/a.jpg\n')
    source = root / 'data.yaml'
    text = source.read_text().replace('images/train', 'train.txt')
    source.write_text(text)
    with pytest.raises(ValueError, match='no image is left') as error:
        read_dataset(root)
    text = str(error.value)
    assert 'listed and missing: 1' in text
    assert '(/content/data/images/a.jpg)' in text


def test_a_copy_is_the_same_image(coco_copy):
    shutil.copy(coco_copy / 'train/a.jpg', coco_copy / 'val/d.jpg')
    content = make_content('val')
    content['images'][0].update(width=64, height=48)
    write_json(coco_copy / 'annotations/val.json', content)
    notes = notes_of(read_dataset(coco_copy))
    assert '1 images of val are in train too' in notes and 'd.jpg' in notes


def test_objects_that_are_listed_again_are_taken_once(coco_root, parts):
    content = make_content('train')
    twin = dict(content['annotations'][1], id=9, area=1.0)
    content['annotations'].append(twin)
    write_json(coco_root / 'annotations/train.json', content)
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    assert 'image, class and box: 1; taken once' in notes_of(dataset)


def test_a_label_file_of_an_upper_case_ending(coco_root, parts):
    labels = coco_root / 'annotations/train.json'
    labels = labels.rename(labels.with_name('LABELS.JSON'))
    dataset = read_dataset(coco_root / 'train', labels)
    assert_same(dataset.splits, {'train': parts['train']})
    labels.rename(labels.with_name('train.JSON'))
    assert_same(read_dataset(coco_root).splits, parts)


@pytest.mark.parametrize('folder', ['@eaDir', '#recycle', '$RECYCLE.BIN'])
def test_thumbnails_and_deleted_files_of_drives(coco_copy, folder):
    thumbnail = coco_copy / 'train' / folder / 'a.jpg/THUMB_M.jpg'
    thumbnail.parent.mkdir(parents=True)
    shutil.copy(coco_copy / 'train/a.jpg', thumbnail)
    dataset = read_dataset(coco_copy)
    assert len(dataset.all_photos()) == sum(map(len, SIZES.values()))
    assert not dataset.unlabelled()


def test_classes_whose_names_are_numbers(coco_root):
    content = make_content('train')
    for number, category in enumerate(content['categories']):
        category['name'] = number
    write_json(coco_root / 'annotations/train.json', content)
    labels = coco_root / 'annotations/train.json'
    dataset = read_dataset(coco_root / 'train', labels)
    assert dataset.classes == ('0', '1', '2')
    assert 'whose name is a number: 3; read as text' in notes_of(dataset)


def test_crowds_and_classes_without_object(coco_root):
    content = make_content('train')
    content['annotations'][1]['iscrowd'] = 1
    write_json(coco_root / 'annotations/train.json', content)
    dataset = read_dataset(coco_root)
    notes = notes_of(dataset)
    assert 'train.json: 1 of 4 objects are crowd regions' in notes
    assert "without an object to learn from: 1 ('square')" in notes
    assert len(dataset.splits['train'].content['annotations']) == 4


def test_parts_that_share_images(coco_root, parts):
    val = make_content('train')
    (coco_root / 'val').unlink()
    (coco_root / 'train').rename(coco_root / 'images')
    write_json(coco_root / 'annotations/val.json', val)
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, {'train': parts['train']})
    (note,) = dataset.notes
    assert 'val.json: val is the images of train, which tells' in note
    val['images'].pop()
    write_json(coco_root / 'annotations/val.json', val)
    dataset = read_dataset(coco_root)
    assert list(dataset.splits) == ['train', 'val']
    (note,) = dataset.notes
    assert 'val.json: 2 images of val are in train too, so' in note


def test_trainval_beside_val(voc, parts):
    lists = voc / 'ImageSets/Main'
    (lists / 'train.txt').unlink()
    (lists / 'trainval.txt').write_text('a\nb\nc\nd\ne\n')
    dataset = read_dataset(voc)
    assert_same(dataset.splits, parts)
    told = 'trainval.txt: taken as train, without the 2 images of val.txt'
    assert told in dataset.notes[0]


def test_names_in_voc_lists(voc, parts):
    for place in ('JPEGImages/a.jpg', 'Annotations/a.xml'):
        path = voc / place
        path.rename(path.with_stem('a 1.x'))
    train = voc / 'ImageSets/Main/train.txt'
    train.write_text('a 1.x\nb.png\n c  -1\n')
    dataset = read_dataset(voc)
    names = [i['file_name'] for i in dataset.splits['train'].content['images']]
    assert names == ['a 1.x.jpg', 'b.png', 'c.jpg']
    assert 'without an XML' not in notes_of(dataset)
    train.write_text('1.jpg\n2.jpg\n')
    with pytest.raises(ValueError, match='no line is the name') as error:
        read_dataset(voc)
    assert str(train) in str(error.value) and 'val.txt' not in str(error.value)


def test_voc_without_size_on_a_turned_image(voc):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = voc / 'JPEGImages/a.jpg'
    Image.new('RGB', (48, 64)).save(path, exif=exif)
    xml = voc / 'Annotations/a.xml'
    text = xml.read_text()
    xml.write_text(text.replace('size>', 'other>'))
    notes = notes_of(read_dataset(voc))
    assert 'files that their EXIF orientation mirrors or turns' in notes
    assert 'look whether the boxes are of the image after it' in notes


@pytest.mark.parametrize('end', ['', '\n', '\n\n \n'])
def test_blank_lines_of_classes_txt(parts, tmp_path, end):
    root = write_yolo(tmp_path / 'yolo', parts).parent
    (root / 'data.yaml').unlink()
    source = root / 'classes.txt'
    source.write_text('\n'.join(NAMES) + end)
    assert_same(read_dataset(root).splits, parts)
    source.write_text('disc\n\nsquare\nno' + end)
    with pytest.raises(ValueError, match=f'{source}:2 is blank'):
        read_dataset(root)


def test_windows_paths_of_equal_names(coco_copy):
    content = make_content('train')
    names = ('x\\1.jpg', 'y\\1.jpg', 'z\\1.jpg')
    for image, name in zip(content['images'], names, strict=True):
        path = coco_copy / 'train' / name.replace('\\', '/')
        path.parent.mkdir()
        (coco_copy / 'train' / image['file_name']).rename(path)
        image['file_name'] = name
    write_json(coco_copy / 'annotations/train.json', content)
    split = read_dataset(coco_copy).splits['train']
    assert [i['file_name'][0] for i in split.content['images']] == list('xyz')
    assert [row[2] for row in rows_of(split)] == [
        a['bbox'] for a in content['annotations']
    ]


def test_category_ids_that_do_not_ascend(coco_root, parts):
    for part in parts:
        path = coco_root / f'annotations/{part}.json'
        content = json.loads(path.read_text())
        for thing in content['categories']:
            thing['id'] = 4 - thing['id']
        for ann in content['annotations']:
            ann['category_id'] = 4 - ann['category_id']
        write_json(path, content)
    dataset = read_dataset(coco_root)
    assert_same(dataset.splits, parts)
    assert dataset.classes == NAMES
    for split in dataset.splits.values():
        assert [c['id'] for c in split.content['categories']] == [1, 2, 3]


def test_objects_of_images_that_are_not_listed(coco_root):
    content = make_content('train')
    content['annotations'][0]['image_id'] = 99
    write_json(coco_root / 'annotations/train.json', content)
    dataset = read_dataset(coco_root)
    assert 'of images that the file does not list: 1' in notes_of(dataset)
    assert len(dataset.splits['train'].content['annotations']) == 3
