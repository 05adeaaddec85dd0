import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mmfgl.testing.layouts import write_yolo
from mmfgl.utils.audit import Use, audit_coco
from mmfgl.utils.formats import read_dataset, split_dataset, write_dataset
from tests.test_utils.test_formats.known_boxes import assert_same


def test_written_and_read_back(parts, tmp_path):
    source = write_yolo(tmp_path / 'yolo', parts)
    more = source.parent / 'images' / 'ünlabelled.PNG'
    Image.new('RGB', (9, 9)).save(more)
    before = sorted(tmp_path.rglob('*'))
    dataset = read_dataset(source.parent)
    assert sorted(tmp_path.rglob('*')) == before  # reading writes nothing
    assert dataset.notes == ['1 photographs in no split: for pretraining only']
    written = write_dataset(dataset, tmp_path / 'run' / 'data')
    annotations = tmp_path / 'run' / 'data' / 'annotations'
    assert written.ann_files == {
        part: str(annotations / f'{part}.json') for part in parts
    }
    assert written.roots == {
        part: str(source.parent / 'images' / part) for part in parts
    }
    for part, path in written.ann_files.items():
        content = json.loads(Path(path).read_text())
        assert content == dataset.splits[part].content
        root = Path(written.roots[part])
        names = [image['file_name'] for image in content['images']]
        assert not any(os.path.isabs(name) for name in names)
        assert all((root / name).is_file() for name in names)
        _, report = audit_coco(Use(path, written.roots[part]))
        assert not report.findings()
    assert len(dataset.all_photos()) == 6
    assert dataset.unlabelled() == [str(more)]


def test_the_same_data_give_the_same_bytes(parts, tmp_path):
    root = write_yolo(tmp_path / 'yolo', {'train': parts['train']}).parent
    contents = []
    for name in ('one', 'two'):
        dataset = split_dataset(read_dataset(root), val_share=0.4)
        written = write_dataset(dataset, tmp_path / name)
        files = written.ann_files.values()
        contents.append([Path(path).read_bytes() for path in files])
        shutil.copytree(root, tmp_path / 'elsewhere', dirs_exist_ok=True)
    assert len(contents[0]) == 2
    assert contents[0] == contents[1]


def test_what_was_written_is_read(parts, coco_root, tmp_path):
    """The written annotations are a layout of their own."""
    written = write_dataset(read_dataset(coco_root), tmp_path / 'out')
    again = read_dataset(coco_root, Path(written.ann_files['train']).parent)
    assert_same(again.splits, parts)


@pytest.mark.parametrize('name', ['microcontrollers'])
def test_real_photographs_as_a_yolo_folder(name, tmp_path):
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
