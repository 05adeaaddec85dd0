import json
import os
import shutil
from pathlib import Path

import pytest

from mmfgl.datasets import UnlabelledImages
from mmfgl.recipes.photos import (
    describe,
    digest_of,
    pretraining_photos,
    read_photos,
    write_photos,
)
from mmfgl.utils.audit import Use, audit_coco


def names(paths):
    return {'/'.join(Path(path).parts[-2:]) for path in paths}


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def test_all_photographs_but_val_are_pretrained_on(digits, dataset, tmp_path):
    photos = names(pretraining_photos(dataset))
    expected = [
        p for d in ('train', 'unlabelled') for p in (digits / d).iterdir()
    ]
    assert photos == names(expected) and len(photos) == 8
    write_photos(dataset, tmp_path)
    listed = (tmp_path / 'data/pretraining.txt').read_text().splitlines()
    assert set(listed) == photos  # relative to the photographs' folder
    text = describe(dataset)
    assert 'pretraining: 8 photographs' in text
    assert 'the 3 of val are never among them' in text


@pytest.mark.parametrize('part', ['val', 'test'])
def test_a_part_whose_labels_are_hidden_is_held_out(digits, tmp_path, part):
    root = shutil.copytree(digits, tmp_path / 'photos')
    pool = root / 'val/more' if part == 'val' else root / 'test'
    (root / 'unlabelled').rename(pool)
    folder = root / part
    images = [
        dict(id=i, file_name=str(p.relative_to(folder)), width=128, height=96)
        for i, p in enumerate(sorted(folder.rglob('*.jpg')), 1)
    ]
    labels = root / f'annotations/{part}.json'
    content = json.loads((root / 'annotations/train.json').read_text())
    write_json(labels, dict(content, images=images, annotations=[]))
    dataset = read_photos(root)
    photos = pretraining_photos(dataset)
    assert photos and not any(str(folder) in path for path in photos)
    assert any(f'{part} has no object' in note for note in dataset.notes)
    assert len(dataset.held_out) == len(images)


def test_a_link_to_a_held_out_photograph_is_one(digits, tmp_path):
    dataset = read_photos(shutil.copytree(digits, tmp_path / 'photos'))
    before = pretraining_photos(dataset)
    held_out = dataset.splits['val'].paths()[0]
    link = Path(dataset.photos, 'pool', 'link.jpg')
    link.parent.mkdir()
    link.symlink_to(held_out)
    copy = link.with_name('copy.jpg')
    shutil.copyfile(held_out, copy)
    assert pretraining_photos(dataset) == before
    nowhere = link.with_name('nowhere.jpg')
    nowhere.symlink_to('nothing')
    assert pretraining_photos(dataset) == sorted([*before, str(nowhere)])
    nowhere.unlink()
    # of the same size, with other pixels
    copy.write_bytes(copy.read_bytes()[:-1] + b'x')
    assert pretraining_photos(dataset) == sorted([*before, str(copy)])


def test_names_that_a_list_of_images_may_not_hold(digits, tmp_path):
    photos = shutil.copytree(digits, tmp_path / 'photos')
    source = next((photos / 'unlabelled').iterdir())
    for name in (' blank.jpg', 'line\nbreak.jpg', 'back\\slash.jpg'):
        content = source.read_bytes() + name.encode()
        source.with_name(name).write_bytes(content)
    dataset = read_photos(photos)
    (note,) = (note for note in dataset.notes if 'rename' in note)
    assert note.startswith('2 photographs are not pretrained on: a list')
    write_photos(dataset, tmp_path)
    images = UnlabelledImages(
        data_prefix=dict(img_path=dataset.photos),
        ann_file=str(tmp_path / 'data/pretraining.txt'),
    )
    paths = [images.get_data_info(row)['img_path'] for row in range(9)]
    assert len(images) == 9 and all(map(os.path.isfile, paths))
    blank = [path for path in paths if path.endswith('/ blank.jpg')]
    assert len(blank) == 1


def test_without_val_a_fifth_of_the_labelled_is_held_out(digits):
    labels = digits / 'annotations/train.json'
    dataset = read_photos(digits / 'train', labels)
    sizes = {n: len(s.content['images']) for n, s in dataset.splits.items()}
    assert sum(sizes.values()) == 6 and sizes['val'] in (1, 2)
    held_out = dataset.splits['val'].paths()
    assert not set(held_out) & set(pretraining_photos(dataset))
    assert digest_of(dataset) == digest_of(
        read_photos(digits / 'train', labels)
    )


def test_what_is_written_is_what_was_read(digits, tmp_path):
    labels = digits / 'annotations/train.json'
    for name in ('one', 'two'):
        dataset = read_photos(digits / 'train', labels)
        write_photos(dataset, tmp_path / name)
    written = tmp_path / 'one/data/annotations'
    assert {path.stem for path in written.iterdir()} == set(dataset.splits)
    for path in written.iterdir():
        again = tmp_path / 'two/data/annotations' / path.name
        assert path.read_bytes() == again.read_bytes()
        split = dataset.splits[path.stem]
        assert json.loads(path.read_text()) == split.content
        _, report = audit_coco(Use(str(path), split.root))
        assert not report.findings('error', 'repair')
    # a layout of its own
    assert read_photos(digits / 'train', written).splits == dataset.splits


@pytest.fixture
def one_folder(digits, tmp_path):
    """Photographs of both splits in one folder, and their labels."""
    photos = tmp_path / 'photos'
    photos.mkdir()
    contents = []
    for split in ('train', 'val'):
        content = json.loads(
            (digits / f'annotations/{split}.json').read_text()
        )
        for image in content['images']:
            name = f'{split}_{image["file_name"]}'
            shutil.copy(digits / split / image['file_name'], photos / name)
            image['file_name'] = name
        contents.append(content)
    return photos, contents


def test_a_val_file_with_other_ids(one_folder, tmp_path):
    photos, (train, val) = one_folder
    labels = write_json(tmp_path / 'a.json', train)
    wanted = [a['category_id'] for a in val['annotations']]
    for category in val['categories']:
        category['id'] += 100
    for annotation in val['annotations']:
        annotation['category_id'] += 100
    dataset = read_photos(photos, labels, write_json(tmp_path / 'b.json', val))
    content = dataset.splits['val'].content
    assert (
        content['categories'] == dataset.splits['train'].content['categories']
    )
    assert [a['category_id'] for a in content['annotations']] == wanted
    assert len(pretraining_photos(dataset)) == 6


def test_what_a_val_file_leaves_out_is_told(one_folder, tmp_path):
    photos, (train, val) = one_folder
    labels = write_json(tmp_path / 'a.json', train)
    (photos / val['images'][0]['file_name']).write_bytes(b'no image')
    path = write_json(tmp_path / 'b.json', val)
    notes = read_photos(photos, labels, path).notes
    told = [note for note in notes if note.startswith(str(path))]
    assert any('1 images without a readable file' in note for note in told)
    assert '1 photographs in no split: for pretraining only' in notes


def test_a_val_file_that_does_not_fit(one_folder, tmp_path):
    photos, (train, val) = one_folder
    labels = write_json(tmp_path / 'a.json', train)
    with pytest.raises(ValueError, match='6 photographs of .* among those to'):
        read_photos(photos, labels, labels)
    val['categories'][0]['name'] = 'other'
    other = write_json(tmp_path / 'b.json', val)
    with pytest.raises(ValueError, match='b.json has the classes other, '):
        read_photos(photos, labels, other)


def test_test_is_taken_as_val_if_there_is_no_other(digits, tmp_path):
    root = tmp_path / 'set'
    shutil.copytree(digits, root)
    shutil.move(root / 'val', root / 'test')
    (root / 'annotations/val.json').rename(root / 'annotations/test.json')
    dataset = read_photos(root)
    assert set(dataset.splits) == {'train', 'val'}
    assert len(dataset.splits['val'].content['images']) == 3
    assert 'test is taken as val' in describe(dataset)
