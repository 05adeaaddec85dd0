import json
import os

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from region_search.cache import ProposalCache

from mmfgl.datasets import FileRegions
from mmfgl.datasets.region_file import read_region_file
from mmfgl.models.selfsup import RegionTeacher
from tools.dataset_converters import propose_regions as tool

RANDOM = ['--proposer', 'mmfgl.RandomRegions', '--workers', '0']


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'photos'
    (root / 'sub').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ('a.jpg', 'b.png', 'sub/a.jpg', 'sub/c.jpg'):
        img = rng.integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(root / name), img)
    (root / 'broken.jpg').write_bytes(b'no image')
    (root / 'empty.jpg').write_bytes(b'')
    return root


def run(folder, *arguments, out='r.json'):
    out = folder.parent / out
    args = [str(folder), '--out', str(out), *RANDOM, *map(str, arguments)]
    counts = tool.run(tool.parse_args(args))
    return counts, json.loads(out.read_text())


def test_folder_to_coco(folder, capsys):
    counts, content = run(folder, '--cfg-options', 'num_regions=5')
    assert counts == dict(images=4, regions=20, cached=0, unreadable=2)
    err = capsys.readouterr().err
    assert 'broken.jpg' in err
    assert 'empty.jpg' in err
    coco = COCO(str(folder.parent / 'r.json'))
    names = {image['file_name'] for image in coco.imgs.values()}
    assert names == {'a.jpg', 'b.png', 'sub/a.jpg', 'sub/c.jpg'}
    boxes = []
    for key, image in coco.imgs.items():
        assert (image['height'], image['width']) == (40, 60)
        anns = coco.loadAnns(coco.getAnnIds(key))
        scores = [ann['score'] for ann in anns]
        assert scores == sorted(scores, reverse=True)
        boxes.append([ann['bbox'] for ann in anns])
    # random boxes differ from image to image
    assert len({str(b) for b in boxes}) == 4
    # and come back through the proposer, in order
    proposer = FileRegions(str(folder.parent / 'r.json'))
    info = dict(img_path=str(folder / 'sub' / 'c.jpg'), img_shape=(40, 60))
    place = [i['file_name'] for i in coco.imgs.values()].index('sub/c.jpg')
    expected = np.array(boxes[place])
    expected[:, 2:] += expected[:, :2]
    np.testing.assert_allclose(proposer.propose(info), expected, atol=0.02)


def test_a_killed_run_does_only_the_rest(folder, monkeypatch):
    calls = []

    def count(self, img_path, *args, _propose=ProposalCache._propose):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(img_path)
        return _propose(self, img_path, *args)

    monkeypatch.setattr(ProposalCache, '_propose', count)
    (folder / 'broken.jpg').unlink()
    (folder / 'empty.jpg').unlink()
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    assert not (folder.parent / 'r.json').exists()
    monkeypatch.undo()
    counts, content = run(folder)
    assert counts['cached'] == 2
    again, same = run(folder)
    assert again['cached'] == 4
    assert same == content
    fresh = run(folder, out='other.json')
    assert fresh[0]['cached'] == 0
    assert fresh[1] == content


def test_cache_follows_content_and_settings(folder):
    run(folder)
    assert run(folder, '--cfg-options', 'num_regions=3')[0]['cached'] == 0
    (folder / 'a.jpg').rename(folder / 'z.jpg')
    assert run(folder)[0]['cached'] == 4
    img = np.zeros((20, 30, 3), np.uint8)
    cv2.imwrite(str(folder / 'b.png'), img)
    counts, content = run(folder)
    assert counts['cached'] == 3
    sizes = {i['file_name']: i['height'] for i in content['images']}
    assert sizes['b.png'] == 20
    # a damaged entry is computed again
    for entry in (folder.parent / 'r.json.cache').glob('*/*/*.npz'):
        entry.write_bytes(b'damaged')
    assert run(folder)[0]['cached'] == 0


def test_several_processes_give_the_same(folder):
    one = run(folder)[1]
    counts, two = run(folder, '--workers', 2, out='two.json')
    assert counts['cached'] == 0
    assert one == two


def test_list_and_coco_json(folder):
    (folder.parent / 'list.txt').write_text('b.png\nsub/c.jpg\n')
    _, content = run(folder, '--ann-file', folder.parent / 'list.txt')
    names = [image['file_name'] for image in content['images']]
    assert names == ['b.png', 'sub/c.jpg']
    images = [dict(id=42, file_name='b.png'), dict(id=7, file_name='a.jpg')]
    (folder.parent / 'i.json').write_text(json.dumps(dict(images=images)))
    _, content = run(folder, '--ann-file', folder.parent / 'i.json')
    assert [image['id'] for image in content['images']] == [42, 7]
    assert {a['image_id'] for a in content['annotations']} == {42, 7}


def test_clusters(folder):
    pytest.importorskip('sklearn')
    for index, colour in enumerate([(255, 0, 0), (0, 255, 0)] * 3):
        img = np.zeros((40, 60, 3), np.uint8)
        img[:] = colour
        cv2.imwrite(str(folder / f'even{index}.png'), img)
    for name in ('a.jpg', 'b.png', 'sub/a.jpg', 'sub/c.jpg'):
        (folder / name).unlink()
    _, content = run(folder, '--clusters', 2)
    assert [c['id'] for c in content['categories']] == [1, 2]
    names = {i['id']: i['file_name'] for i in content['images']}
    labels = {0: set(), 1: set()}
    for ann in content['annotations']:
        labels[int(names[ann['image_id']][4]) % 2].add(ann['category_id'])
    assert sorted(map(list, labels.values())) == [[1], [2]]
    assert run(folder, '--clusters', 2)[1] == content
    with pytest.raises(ValueError, match='cannot make 9999 clusters'):
        run(folder, '--clusters', 9999)


@pytest.fixture
def teacher(tmp_path):
    """A tiny timm model with weights of a file."""
    timm = pytest.importorskip('timm')
    pytest.importorskip('sklearn')
    torch.manual_seed(0)
    model = timm.create_model('test_efficientnet', pretrained=False)
    path = tmp_path / 'w.pth'
    torch.save(model.state_dict(), path)
    return ['--teacher', 'test_efficientnet', str(path), '--embed-dims', '8']


def test_teacher(folder, teacher, monkeypatch):
    """JSON and folder hold the same; the second run embeds nothing anew."""
    options = [*teacher, '--clusters', 3, '--cfg-options', 'num_regions=5']
    counts, content = run(folder, *options)
    assert counts['regions'] == 20
    assert content['info']['teacher']['model'] == 'test_efficientnet'
    assert not (folder.parent / 'r.json.cache' / 'spool').exists()
    path = str(folder.parent / 'r.json')
    regions = read_region_file(path)
    assert regions.embeddings.shape == (20, 8)
    assert set(regions.labels) == {0, 1, 2}
    # rows of one cluster are nearer to each other than to the others
    rows = regions.embed(np.arange(20))
    same = np.equal.outer(regions.labels, regions.labels)
    assert (rows @ rows.T)[same].mean() > (rows @ rows.T)[~same].mean() + 0.2

    arguments = [str(folder), '--out', str(folder.parent / 'r'), *RANDOM]
    args = tool.parse_args([*arguments, *map(str, options)])
    assert tool.run(args)['regions'] == 20
    arrays = read_region_file(str(folder.parent / 'r'))
    np.testing.assert_allclose(arrays.embeddings, regions.embeddings)
    for name in ('a.jpg', 'sub/c.jpg'):
        info = dict(img_path=str(folder / name), img_shape=(40, 60))
        one, two = (
            FileRegions(file).propose_rows(info)
            for file in (path, str(folder.parent / 'r'))
        )
        np.testing.assert_allclose(one[0], two[0], atol=0.02)
        assert np.array_equal(one[1], two[1])
        assert np.array_equal(one[2], two[2])

    def fail(*args):
        raise AssertionError('embedded again')

    monkeypatch.setattr(RegionTeacher, 'embed', fail)
    assert run(folder, *options)[1] == content
    with pytest.raises(AssertionError, match='embedded again'):
        run(folder, *options, '--teacher-size', 32)
    # clusters of colours beside the embeddings
    by_colour = run(folder, *options, '--cluster-by', 'colour')[1]
    assert by_colour['info'] == content['info']
    assert by_colour['annotations'] != content['annotations']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['absent/', '--out', 'x.json', *RANDOM], 'absent/'),
        (['.', '--out', 'x', '--ann-file', 'absent.json', *RANDOM], 'absent'),
        (['photos', '--out', 'x', '--proposer', 'absent'], 'absent'),
        (['photos', '--out', 'x', '--teacher', 'm', 'absent.pth'], 'absent'),
    ],
)
def test_errors_in_one_line(folder, arguments, message, monkeypatch):
    monkeypatch.chdir(folder.parent)
    with pytest.raises(SystemExit, match=message):
        tool.main(arguments)


@pytest.mark.parametrize('kind', ['txt', 'json'])
def test_an_image_listed_twice(folder, kind):
    names = ['a.jpg', 'b.png', './a.jpg']
    images = [dict(id=i, file_name=name) for i, name in enumerate(names)]
    path = folder.parent / f'list.{kind}'
    text = dict(txt='\n'.join(names), json=json.dumps(dict(images=images)))
    path.write_text(text[kind])
    with pytest.raises(ValueError, match=r"lists 1 images again, '.*a\.jpg'"):
        run(folder, '--ann-file', path)


@pytest.mark.parametrize('ids', [(1, 1), (1, None)])
def test_images_without_an_id_of_their_own(folder, ids):
    pairs = zip(ids, ('a.jpg', 'b.png'), strict=True)
    images = [dict(id=number, file_name=name) for number, name in pairs]
    path = folder.parent / 'list.json'
    path.write_text(json.dumps(dict(images=images)))
    with pytest.raises(ValueError, match='each image an id of its own'):
        run(folder, '--ann-file', path)


def test_images_elsewhere_and_names_that_are_no_text(folder, capsys):
    empty = folder.parent / 'empty'
    empty.mkdir()
    bad = os.fsencode(folder) + b'/img\xe9.jpg'
    with open(bad, 'wb') as file:
        file.write(b'x')
    names = [os.fsencode(folder / 'a.jpg'), bad, b'../photos/b.png']
    path = folder.parent / 'list.txt'
    path.write_bytes(b'\xef\xbb\xbf' + b'\r\n'.join(names))
    counts, content = run(empty, '--ann-file', path)
    assert (counts['images'], counts['unreadable']) == (2, 1)
    assert 'img\\udce9.jpg' in capsys.readouterr().err
    names = [image['file_name'] for image in content['images']]
    assert names == [str(folder / 'a.jpg'), str(folder / 'b.png')]
    proposer = FileRegions(str(folder.parent / 'r.json'))
    for name in ('a.jpg', 'b.png'):
        info = dict(img_path=str(folder / name), img_shape=(40, 60))
        assert len(proposer.propose(info))
