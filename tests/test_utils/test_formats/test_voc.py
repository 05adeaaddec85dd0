import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmfgl.testing.layouts import write_voc
from mmfgl.utils.formats import Split, read_dataset
from tests.test_utils.test_formats.known_boxes import (
    NAMES,
    assert_same,
    make_content,
    rows_of,
)


@pytest.fixture
def root(parts, tmp_path) -> Path:
    return write_voc(tmp_path / 'voc', parts)


@pytest.fixture
def xml(root) -> Path:
    """The label of a.jpg, 64 x 48 px."""
    return root / 'Annotations' / 'a.xml'


def rewrite(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def drop_lists(root):
    shutil.rmtree(root / 'ImageSets')


def test_folders_and_lists(root, parts):
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert dataset.classes == tuple(sorted(NAMES))
    assert dataset.layout == f'Pascal VOC: {root / "Annotations"}'
    (note,) = dataset.notes
    assert 'counted from 1, both ends inside (x = xmin - 1, width' in note
    photos, labels = root / 'JPEGImages', root / 'Annotations'
    assert_same(read_dataset(photos, labels).splits, parts)


def test_lists_that_leave_out(root, parts):
    lists = root / 'ImageSets' / 'Main'
    (lists / 'train.txt').rename(lists / 'trainval.txt')
    (lists / 'disc_val.txt').write_text('a 1\n')
    (lists / 'val.txt').write_text('d\nf\n')
    dataset = read_dataset(root)
    names = [p[-5:] for p in dataset.splits['val'].paths()]
    assert names == ['d.jpg']
    notes = '\n'.join(dataset.notes)
    assert 'val.txt: 1 images without an XML: left out (f)' in notes
    assert '1 XML files in no list of' in notes and '(e.xml)' in notes
    assert_same({'train': dataset.splits['train']}, {'train': parts['train']})
    assert len(dataset.all_photos()) == 5


def test_xml_beside_images(root, parts, tmp_path):
    for part, folder in (('train', 'train'), ('val', 'valid')):
        target = shutil.copytree(parts[part].root, tmp_path / 'own' / folder)
        for image in target.iterdir():
            shutil.copy(root / f'Annotations/{image.stem}.xml', target)
    assert_same(read_dataset(tmp_path / 'own').splits, parts)
    # names that are there twice: each belongs to the image beside it
    test = shutil.copytree(parts['train'].root, tmp_path / 'own' / 'test')
    for image in list(test.iterdir()):
        image.write_bytes(image.read_bytes() + b'x')  # no copies
        shutil.copy(root / f'Annotations/{image.stem}.xml', test)
    found = read_dataset(tmp_path / 'own').splits
    assert_same(found, parts | {'test': parts['train']})
    (tmp_path / 'own' / 'test').rename(tmp_path / 'own' / 'more')
    dataset = read_dataset(tmp_path / 'own')  # 'more' is no split
    assert len(dataset.splits['train'].content['images']) == 8


def test_counted_from_zero(root, xml, parts):
    drop_lists(root)
    rewrite(xml, ('<xmin>1</xmin><ymin>1<', '<xmin>0</xmin><ymin>0<'))
    dataset = read_dataset(root)
    assert 'as edges counted from 0' in dataset.notes[0]
    found = [row[2] for row in rows_of(dataset.splits['train'])]
    assert found[:2] == [[31.25, 21.5, 19, 23], [0, 0, 64, 48]]


def test_difficult_objects_are_crowd_regions(root, xml):
    old = '<difficult>0</difficult>'
    text = xml.read_text().replace(old, old.replace('0', '1'), 1)
    xml.write_text(text)
    dataset = read_dataset(root)
    anns = dataset.splits['train'].content['annotations']
    assert [ann['iscrowd'] for ann in anns] == [1, 0, 0, 0]
    notes = '\n'.join(dataset.notes)
    assert 'difficult: 1; crowd regions (iscrowd=1)' in notes
    assert '1 of 4 objects are crowd regions' in notes


@pytest.mark.parametrize(
    'name', ['C:\\Users\\me\\b.png', 'a', '/old/place/x.jpg', '']
)
def test_filename_is_wrong(root, xml, parts, name):
    rewrite(xml, ('>a.jpg<', f'>{name}<'))
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    told = 'filename is not their own name: 1' in '\n'.join(dataset.notes)
    assert told == (name not in ('a', ''))


def test_filename_of_an_xml_of_another_name(root, xml, parts):
    drop_lists(root)
    xml.rename(xml.with_name('0001.xml'))
    dataset = read_dataset(root)
    assert len(dataset.splits['train'].content['images']) == 5
    assert any('another name than their image: 1' in n for n in dataset.notes)
    shutil.copy(xml.with_name('0001.xml'), xml)
    with pytest.raises(ValueError, match='with two label files: 1') as error:
        read_dataset(root)
    for name in ('0001.xml', 'a.xml'):
        assert str(xml.with_name(name)) in str(error.value)


def test_images_and_labels_without_their_other_half(root, xml, parts):
    (root / 'JPEGImages' / 'c.jpg').unlink()
    Image.new('RGB', (9, 9)).save(root / 'JPEGImages' / 'more.jpg')
    dataset = read_dataset(root)
    notes = '\n'.join(dataset.notes)
    gone = xml.with_name('c.xml')
    assert f'whose image is missing: 1; left out ({gone})' in notes
    assert dataset.unlabelled() == [str(root / 'JPEGImages' / 'more.jpg')]
    Image.new('RGB', (9, 9)).save(root / 'JPEGImages' / 'a.png')
    with pytest.raises(ValueError, match='several images have the name of'):
        read_dataset(root)


def test_sizes(root, xml, parts):
    rewrite(xml, ('<width>64<', '<width>0<'))
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert any('without width and height: 1' in n for n in dataset.notes)
    rewrite(xml, ('<width>0<', '<width>128<'), ('>48<', '>96<'))
    with pytest.raises(ValueError, match='is 64 x 48, the labels say 128'):
        read_dataset(root)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (48, 64)).save(root / 'JPEGImages/a.jpg', exif=exif)
    rewrite(xml, ('>128<', '>48<'), ('>96<', '>64<'))
    with pytest.raises(ValueError, match='EXIF orientation turns'):
        read_dataset(root)


@pytest.mark.parametrize(
    'old, new, message',
    [
        ('<name>square<', '<name> <', 'without a name: 1 .*, object 2'),
        ('<xmax>51', '<xmax>wide', 'four numbers in it: 1 .*, object 1'),
        ('bndbox>', 'box>', 'without bndbox, .*: 2 .*, object 1'),
        (
            '</annotation>',
            '',
            r'no XML, or not whole: 1 .*a.xml: no element found: line 1',
        ),
    ],
)
def test_broken_files(root, xml, old, new, message):
    text = xml.read_text()
    xml.write_text(text.replace('50.25<', '51<').replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        read_dataset(root)
    assert str(xml) in str(error.value)


def test_encodings(root, xml):
    text = xml.read_text().replace('<name>square<', '<name>猫<')
    for name in ('utf-8', 'gb2312', 'cp936'):
        head = f'<?xml version="1.0" encoding="{name}"?>'
        xml.write_bytes(f'{head}\n{text}'.encode(name))
        assert '猫' in read_dataset(root).classes
    for wrong in (head.replace('cp936', 'none'), head.replace('936', '949')):
        xml.write_bytes(f'{wrong}\n{text}'.encode())
        with pytest.raises(ValueError, match='no XML, or not whole: 1'):
            read_dataset(root)


def test_swapped_corners(root, xml, parts):
    low, high = '<ymin>21.5</ymin>', '<ymax>44.5</ymax>'
    swapped = '<ymin>44.5</ymin>', '<ymax>21.5</ymax>'
    rewrite(xml, (low, swapped[0]), (high, swapped[1]))
    dataset = read_dataset(root)
    assert_same(dataset.splits, parts)
    assert any('swapped: 1; swapped back' in n for n in dataset.notes)


def test_classes_of_all_parts_in_one_order(parts, tmp_path):
    content = make_content('val')
    content['annotations'] = content['annotations'][:1]
    val = Split(content, parts['val'].root)
    root = write_voc(tmp_path / 'voc', parts | {'val': val})
    splits = read_dataset(root).splits.values()
    train, val = (split.content['categories'] for split in splits)
    assert train == val and len(val) == 3
