import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from mmfgl.datasets import UnlabelledImages, unlabelled_images
from mmfgl.registry import DATASETS

GRID = dict(type='mmfgl.GridRegions', cell_sizes=(8, 16))
PIPELINE = [
    dict(type='mmfgl.LoadUnlabelledImage'),
    dict(type='mmfgl.RegionViews', proposer=GRID, view_size=32),
    dict(type='mmfgl.PackRegionViews'),
]


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((24, 32, 3), 128, np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Images named out of order, in sub-folders, beside other files."""
    for name in ('b.png', 'a.jpg', 'sub/c.JPEG', 'sub/deep/d.bmp'):
        write_image(tmp_path / 'images' / name)
    (tmp_path / 'images' / 'notes.txt').write_text('no image')
    for hidden in ('.thumbnails', '__MACOSX', '@eaDir', 'sub/#recycle'):
        write_image(tmp_path / 'images' / hidden / 'e.png')
    return tmp_path / 'images'


@pytest.fixture
def faulty(tmp_path):
    """Folder where only 2.png and 5.png can be read, and a list."""
    root = tmp_path / 'faulty'
    for name in ('2.png', '5.png'):
        write_image(root / name)
    (root / '0.jpg').write_bytes(b'\xff\xd8\xff no jpeg at all')
    (root / '1.png').write_bytes(b'')
    (root / '4.jpg').write_bytes(b'<html>404</html>')
    names = ['0.jpg', '1.png', '2.png', '3-missing.png', '4.jpg', '5.png']
    (root / 'list.txt').write_text('\n'.join([*names, '0.jpg']))
    return root


def build(root, ann_file='', **options):
    return UnlabelledImages(data_root=str(root), ann_file=ann_file, **options)


def names(dataset):
    prefix = dataset.data_prefix['img_path']
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    assert all(path.startswith(prefix) for path in paths)
    return [path[len(prefix) :].lstrip('/') for path in paths]


def test_folder_with_its_sub_folders_and_list_in_its_order(folder):
    expected = ['a.jpg', 'b.png', 'sub/c.JPEG', 'sub/deep/d.bmp']
    assert names(build(folder)) == expected
    assert names(build('', data_prefix=dict(img_path=str(folder)))) == expected
    dataset = build(folder, data_prefix=dict(img_path='sub'))
    assert names(dataset) == ['c.JPEG', 'deep/d.bmp']
    (folder / 'list.txt').write_bytes(b'sub/c.JPEG\r\n\n  a.jpg \n')
    assert names(build(folder, 'list.txt')) == ['sub/c.JPEG', 'a.jpg']
    # a lazy data set reads at its first use
    dataset = build(folder, pipeline=PIPELINE, lazy_init=True)
    assert dataset[0]['data_samples'].img_path == str(folder / 'a.jpg')


def test_coco_json_is_read_without_its_labels(folder):
    content = dict(
        images=[dict(file_name='b.png'), dict(file_name='sub/c.JPEG', id=-1)],
        annotations='garbage',
        categories=[None, 42],
    )
    (folder / 'coco.JSON').write_text(json.dumps(content))
    config = dict(type='mmfgl.UnlabelledImages', data_root=str(folder))
    config.update(ann_file='coco.JSON', pipeline=PIPELINE)
    dataset = DATASETS.build(dict(config, serialize_data=True))
    assert names(dataset) == ['b.png', 'sub/c.JPEG']
    assert set(dataset.get_data_info(0)) == {'img_path', 'sample_idx'}
    sample = dataset[0]['data_samples']
    assert sample.img_path.endswith('b.png')
    assert set(sample.keys()) == {'boxes', 'rows'}


def test_missing_and_empty_sources(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.*set data_root'):
        build(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='absent.txt.*set ann_file'):
        build(folder, 'absent.txt')
    (folder / 'list.txt').write_text('\n\n')
    with pytest.raises(ValueError, match='no image found.*list.txt'):
        build(folder, 'list.txt')
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'readme.md').write_text('no image')
    with pytest.raises(ValueError, match='no image found.*empty.*[.]jpg'):
        build(tmp_path / 'empty')

    (tmp_path / 'empty' / 'gone.jpg').symlink_to('nowhere')
    words = 'found 1 other files .1 .md.; 1 links to nothing .gone.jpg.'
    with pytest.raises(ValueError, match=words):
        build(tmp_path / 'empty')
    (folder / 'list.txt').write_text('a.jpg\nhttps://x.org/a.jpg\n')
    words = "list.txt' holds the address 'https://x.org/a.jpg'"
    with pytest.raises(ValueError, match=words):
        build(folder, 'list.txt')

    for content in ('[1, 2]', '{"annotations": []}', '"x"'):
        (folder / 'x.json').write_text(content)
        with pytest.raises(ValueError, match="x.json' is not in COCO format"):
            build(folder, 'x.json')


def test_images_without_regions(folder, tmp_path):
    """They are skipped and told; two images are never one."""
    file = tmp_path / 'r.json'
    listed = [dict(id=0, file_name='a.jpg', width=32, height=24)]
    notes = [dict(id=1, image_id=0, category_id=1, bbox=[2, 2, 9, 9])]
    content = dict(images=listed, annotations=notes, categories=[dict(id=1)])
    file.write_text(json.dumps(content))
    views = dict(PIPELINE[1], proposer=dict(type='mmfgl.FileRegions'))
    views['proposer']['ann_file'] = str(file)
    pipeline = [PIPELINE[0], views, PIPELINE[2]]
    dataset = build(folder, pipeline=pipeline)
    sample = dataset[1]['data_samples']
    assert sample.img_path.endswith('a.jpg')
    assert [path for path, _ in sample.skipped][0].endswith('b.png')
    assert 'not in the region file' in sample.skipped[0][1]
    write_image(folder / 'sub' / 'a.jpg')
    with pytest.raises(ValueError, match="are both 'a.jpg' of the region fil"):
        build(folder, pipeline=pipeline)


def test_too_many_unreadable_images(faulty):
    # two tries: the image, and the one half of the set away
    dataset = build(faulty, 'list.txt', pipeline=PIPELINE, max_refetch=2)
    sample = dataset[6]['data_samples']
    assert sample.img_path == str(faulty / '2.png')
    assert [Path(path).name for path, _ in sample.skipped] == ['0.jpg']
    with pytest.raises(RuntimeError, match='2 images in a row.*4.jpg'):
        dataset[1]
    (faulty / 'list.txt').write_text('0.jpg\n1.png\n4.jpg')
    dataset = build(faulty, 'list.txt', pipeline=PIPELINE)
    with pytest.raises(RuntimeError, match='3 images in a row.*0.jpg'):
        dataset[1]


@pytest.mark.parametrize('num_workers', [0, 1])
def test_unreadable_images_are_skipped_and_listed(faulty, num_workers):
    config = dict(
        batch_size=3,
        num_workers=num_workers,
        dataset=build(faulty, 'list.txt', pipeline=PIPELINE),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    seen = []
    for batch in Runner.build_dataloader(config, seed=0):
        assert [v.shape[1:] for v in batch['inputs']] == [(3, 32, 32)] * 2
        assert all(v.dtype == torch.uint8 for v in batch['inputs'])
        for sample in batch['data_samples']:
            files = [sample.img_path, *(path for path, _ in sample.skipped)]
            seen.append(' '.join(Path(f).name for f in files))
    assert all(Path(f).parent == faulty for f in files)
    assert seen == [
        *('2.png 0.jpg 1.png', '2.png 1.png', '2.png'),
        *('5.png 3-missing.png 4.jpg', '5.png 4.jpg', '5.png'),
        '2.png 0.jpg 0.jpg 1.png',  # the last is followed by the first
    ]


def test_lists_made_on_windows(folder):
    expected = ['sub/c.JPEG', 'a.jpg']
    (folder / 'list.txt').write_bytes(b'\xef\xbb\xbfsub\\c.JPEG\r\na.jpg')
    assert names(build(folder, 'list.txt')) == expected
    rows = [dict(file_name='sub\\c.JPEG'), dict(file_name='a.jpg')]
    content = json.dumps(dict(images=rows)).encode('utf-8-sig')
    (folder / 'list.json').write_bytes(content)
    assert names(build(folder, 'list.json')) == expected
    dataset = build(folder, 'list.json', indices=[1])
    assert names(dataset) == ['a.jpg']
    assert names(dataset.get_subset([0])) == ['a.jpg']
    assert names(build(folder, 'list.txt', indices=1)) == ['sub/c.JPEG']


def test_left_out_files_are_counted(folder, monkeypatch):
    lines = []
    monkeypatch.setattr(
        unlabelled_images, 'print_log', lambda text, **_: lines.append(text)
    )
    build(folder)
    text = f"'{folder}/': 4 images; left out: 1 other files (1 .txt)"
    assert lines == [text]
    build(folder, 'notes.txt')  # a list: taken as it is
    assert lines == [text]
