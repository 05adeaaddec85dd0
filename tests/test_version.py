import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmfgl
from mmfgl import version
from mmfgl.version import PARENTS, check_parents, find_version

ROOT = Path(mmfgl.__file__).parents[1]
ONEDL = dict(zip(PARENTS, ('0.10.12', '2.3.6', '3.5.1', '1.3.6')))
OPENMMLAB = dict(zip(PARENTS, ('0.10.7', '2.1.0', '3.3.0', '1.2.0')))


@pytest.fixture
def message(monkeypatch):
    """The message about a made-up machine."""

    def make(versions):
        monkeypatch.setattr(version, 'find_version', versions.get)
        with pytest.raises(ImportError) as info:
            check_parents()
        assert 'make install PARENTS=openmmlab' in str(info.value)
        return str(info.value)

    return make


@pytest.mark.parametrize(
    'versions', [ONEDL, OPENMMLAB, OPENMMLAB | dict(mmcv='2.1.0+cu121')]
)
def test_both_families_pass(versions, monkeypatch):
    check_parents()  # of this environment
    monkeypatch.setattr(version, 'find_version', versions.get)
    check_parents()


def test_all_problems_in_one_message(message):
    text = message(dict(mmengine='0.9.1', mmcv='3.0.0', mmdet='4.0.0'))
    versions = ('0.9.1', '3.0.0', '4.0.0', 'no version of it')
    for name, seen in zip(PARENTS, versions, strict=True):
        line = f'{name}{PARENTS[name]} is needed, but {seen} is installed'
        assert line in text
    text = message(OPENMMLAB | dict(mmcv='2.2.0'))
    assert 'mmcv>=2.1.0,<2.2.0 is needed by mmdet 3.3.0, but 2.2.0' in text


@pytest.mark.parametrize('name', ['mmcv._ext', 'torch'])
def test_ops_that_do_not_load(message, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)  # its import now fails
    text = message(ONEDL)
    assert 'mmcv 2.3.6 has no compiled ops that load' in text
    assert name in text


def test_find_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / 'fake_parent'
    package.mkdir()
    assert find_version('fake_parent_missing') is None
    # what `pip uninstall` leaves when files of one's own are in the folder
    assert find_version('fake_parent') is None
    (package / '__init__.py').write_text("raise AssertionError('imported')")
    (package / 'version.py').write_text("__version__ = '1.2.3'")
    assert find_version('fake_parent') == '1.2.3'


def test_import_mmfgl_checks_before_the_parents_are_imported(tmp_path):
    package = tmp_path / 'mmcv'
    package.mkdir()
    (package / '__init__.py').write_text("raise AssertionError('imported')")
    (package / 'version.py').write_text("__version__ = '1.7.2'")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, '-c', 'import mmfgl'],
        env={**os.environ, 'PYTHONPATH': path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'but 1.7.2 is installed' in done.stderr
    assert 'AssertionError' not in done.stderr
