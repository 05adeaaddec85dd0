"""Names of very many images."""

import os

import numpy as np
import pytest

from mmfgl.datasets import image_names
from mmfgl.datasets.image_names import ImageNames, find_images


def names_of(found):
    return [info['img_path'] for info in found]


@pytest.mark.parametrize('chunk', [3, 2**24])
def test_lines(monkeypatch, chunk):
    monkeypatch.setattr(image_names, 'CHUNK', chunk)
    text = b'sub/c.JPEG\r\n\n  a b.jpg \n \t\r\nday\\one\\x.jpg\r\n/r/y.png'
    expected = ['f/sub/c.JPEG', 'f/a b.jpg', 'f/day/one/x.jpg', '/r/y.png']
    for mark in (b'', b'\xef\xbb\xbf'):
        assert names_of(ImageNames.of_lines('f', mark + text)) == expected
    text16 = text.decode().encode('utf-16')
    assert names_of(ImageNames.of_lines('f', text16)) == expected
    assert len(ImageNames.of_lines('f', b'')) == 0
    assert len(ImageNames.of_lines('f', b'\n \r\n\n')) == 0


def test_any_name_comes_back():
    names = ['a\n.jpg', ' b ', 'img\udce9.jpg', 'ü/c.png', 'back\\slash.jpg']
    found = ImageNames.of('f', names)
    assert names_of(found) == [f'f/{name}' for name in names]
    assert names_of(found[1:3]) == ['f/ b ', 'f/img\udce9.jpg']
    assert found[-1] == dict(img_path='f/back\\slash.jpg')
    with pytest.raises(IndexError):
        found[5]
    latin = ImageNames.of_lines('f', b'img\xe9.jpg\n')
    assert names_of(latin) == ['f/img\udce9.jpg']


@pytest.mark.parametrize('name', ['https://x.org/a.jpg', 's3://b/c.jpg'])
def test_addresses_are_refused(name):
    ImageNames.of('s3://bucket', ['a.jpg']).refuse_addresses('x')
    words = f"^'l.txt' holds the address '{name}' .image 2 of 3.: it must hold"
    for names in (
        ImageNames.of_lines('f', f'a.jpg\n{name}\nb.jpg'.encode()),
        ImageNames.of('f', ['a.jpg', name, 'b.jpg']),
    ):
        with pytest.raises(ValueError, match=words):
            names.refuse_addresses("'l.txt'")


def test_a_name_takes_few_bytes():
    text = b'\n'.join(b'train/%012d.jpg' % i for i in range(1000))
    found = ImageNames.of_lines('f', text)
    assert found.starts.dtype == np.uint32
    assert len(found.data) + found.starts.nbytes < 1000 * (23 + 4)


def test_folder_with_all_kinds_of_entries(tmp_path):
    for name in (
        'b.png',
        'a.JPG',
        'x.jpg/c.webp',
        '.hidden.jpg',
        'deep/d.gif',
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b'')
    for name in ('notes.txt', 'more.txt', 'photo.HEIC', 'README'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'b.png')
    (tmp_path / 'gone.jpg').symlink_to(tmp_path / 'nowhere')
    (tmp_path / 'round').symlink_to(tmp_path)  # a folder in itself
    (tmp_path / 'circle.jpg').symlink_to('circle.jpg')
    os.mkfifo(tmp_path / 'pipe.jpg')  # reading it would never end
    found = find_images(str(tmp_path))
    expected = ['a.JPG', 'b.png', 'deep/d.gif', 'link.jpg', 'x.jpg/c.webp']
    assert found.names == expected
    assert found.report() == (
        '4 other files (2 .txt, 1 .heic, 1 without extension); '
        '2 links to nothing (circle.jpg, gone.jpg)'
    )
    assert find_images(str(tmp_path / 'deep')).report() == ''
