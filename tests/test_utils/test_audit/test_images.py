"""Annotations against the headers of their images."""

from PIL import Image

from mmfgl.utils.audit import headers
from mmfgl.utils.audit.headers import read_headers
from tests.coco_sets import (
    audit,
    each,
    set_entry,
)


def save_turned(path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.open(path).save(path, exif=exif)


def test_images_turned_by_exif(root):
    path = root / 'train' / 'train1.png'
    save_turned(path, 6)
    _, report = audit(root)
    assert 'EXIF' in report.failure() and "'train1.png'" in report.failure()
    assert not audit(root, turned=False)[1].findings()
    _, report = audit(root, set_entry('images', 0, width=48, height=64))
    assert [f.level for f in report.findings()] == ['note']
    # without a size nothing tells which way the boxes are
    _, report = audit(root, each('images', width=None))
    assert [f.level for f in report.findings()] == ['warning', 'repair']
    save_turned(path, 3)
    _, report = audit(root, lambda c: None)
    assert [f.level for f in report.findings()] == ['warning']
    for turn in (1, 99):
        save_turned(path, turn)
        assert not audit(root)[1].findings()


def test_bad_files_are_named(root):
    (root / 'train' / 'train1.png').write_bytes(b'')
    _, report = audit(root)
    assert 'no readable image: 1' in str(report.findings('warning')[0])
    assert "'train1.png'" in str(report.findings('warning')[0])
    (root / 'train' / 'train1.png').unlink()
    (finding,) = audit(root)[1].findings()
    assert 'images without a file: 1' in str(finding)
    content, report = audit(root, each('images', width=None))
    assert [image['id'] for image in content['images']] == [2]
    assert 'neither size nor readable file: 1' in str(report.findings()[-2])
    # found one folder higher
    change = each('images', file_name=lambda e: f'train/train{e["id"]}.png')
    failure = audit(root, change)[1].failure()
    assert f'set data_prefix.img to {root}, where they are' in failure


def test_windows_paths(root):
    (root / 'train' / 'a').mkdir()
    for i in (1, 2):
        path = root / 'train' / f'train{i}.png'
        path.rename(root / 'train' / 'a' / path.name)
    change = each('images', file_name=lambda e: f'a\\train{e["id"]}.png')
    content, report = audit(root, change)
    assert content['images'][0]['file_name'] == 'a/train1.png'
    assert 'backslashes' in str(report.findings('repair')[0])


def test_headers_are_remembered(root, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(root / 'cache'))
    monkeypatch.setattr(headers, 'MANY', 2)
    folder, names = str(root / 'train'), ['train1.png', 'train2.png', 'no.png']
    found = read_headers(folder, names)
    assert found[0][2:] == (64, 48, 1) and found[2] is None
    opened = []
    original = Image.open
    monkeypatch.setattr(
        Image, 'open', lambda path: opened.append(path) or original(path)
    )
    assert read_headers(folder, names) == found and not opened
    Image.new('RGB', (9, 8)).save(root / 'train' / 'train2.png')
    opened.clear()
    assert read_headers(folder, names)[1].upright == (9, 8)
    assert [path.endswith('train2.png') for path in opened] == [True]
    # a cache that cannot be written, or is damaged, only costs time
    (store,) = (root / 'cache').rglob('*.json')
    store.write_text('[')
    (root / 'file').touch()
    assert read_headers(folder, names)[0] == found[0]
    monkeypatch.setenv('XDG_CACHE_HOME', str(root / 'file'))
    assert read_headers(folder, names)[0] == found[0]
