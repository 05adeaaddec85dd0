import os
from pathlib import Path

import pytest

from mmfgl.utils import atomic_files
from mmfgl.utils.atomic_files import atomic_file, write_atomically


def test_write_replaces_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / 'deep' / 'file'
    write_atomically(b'old', path)
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append((Path(source).read_bytes(), Path(target).read_bytes()))
        replace(source, target)

    monkeypatch.setattr(atomic_files.os, 'replace', spy)
    write_atomically(b'new and longer', path)
    assert seen == [(b'new and longer', b'old')]
    assert path.read_bytes() == b'new and longer'
    assert os.listdir(path.parent) == ['file']


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    write_atomically(b'old', path)

    def full(handle):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(atomic_files.os, 'fsync', full)
    with pytest.raises(OSError, match='No space left.*untouched') as caught:
        write_atomically(b'new', path)
    assert caught.value.errno == 28
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b'half')
        raise KeyError  # an error of the caller's own
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['file']
