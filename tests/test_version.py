import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmfgl
from mmfgl.version import PARENTS, check_parents, find_version

ROOT = Path(mmfgl.__file__).parents[1]
ONEDL = {
    'mmengine': '0.10.12',
    'mmcv': '2.3.6',
    'mmdet': '3.5.1',
    'mmpretrain': '1.3.6',
}
OPENMMLAB = {
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
}
NAMES = [parent.name for parent in PARENTS]


def check(versions, families=('onedl',), ops=None):
    """Check a made-up machine; ``ops`` is what loading mmcv._ext raises."""

    def load_ops():
        if ops is not None:
            raise ops

    check_parents(versions.get, lambda: set(families), load_ops)


def message(*args, **kwargs):
    with pytest.raises(ImportError) as info:
        check(*args, **kwargs)
    return str(info.value)


def test_this_environment_passes():
    check_parents()
    assert all(find_version(name) for name in NAMES)


@pytest.mark.parametrize('versions', [ONEDL, OPENMMLAB])
def test_both_families_pass(versions):
    check(versions)


def test_local_and_prerelease_parts_are_ignored():
    check({**OPENMMLAB, 'mmcv': '2.1.0+cu121', 'mmengine': '0.10.0rc1'})


@pytest.mark.parametrize('name', NAMES)
def test_missing(name):
    text = message({**ONEDL, name: None}, families=())
    parent = next(p for p in PARENTS if p.name == name)
    assert f'but {name} is not installed' in text
    assert f' {parent.onedl}  # onedl' in text
    assert f' {parent.openmmlab}  # openmmlab' in text
    assert not any(f'but {other} ' in text for other in NAMES if other != name)


@pytest.mark.parametrize(
    ('name', 'version', 'verdict'),
    [
        ('mmengine', '0.9.1', 'too old'),
        ('mmengine', '1.0.0', 'too new'),
        ('mmcv', '2.0.1', 'too old'),
        ('mmcv', '3.0.0', 'too new'),
        ('mmdet', '3.2.0', 'too old'),
        ('mmdet', '4.0.0', 'too new'),
        ('mmpretrain', '1.1.1', 'too old'),
        ('mmpretrain', '2.0', 'too new'),
    ],
)
def test_wrong_version(name, version, verdict):
    text = message({**ONEDL, name: version})
    parent = next(p for p in PARENTS if p.name == name)
    assert f'{name}>={parent.minimum},<{parent.maximum} is needed' in text
    assert f'but {name} {version} is installed: {verdict}' in text
    assert parent.onedl in text


@pytest.mark.parametrize(
    ('family', 'other'), [('onedl', 'openmmlab'), ('openmmlab', 'onedl')]
)
def test_commands_keep_to_the_installed_family(family, other):
    text = message({**ONEDL, 'mmdet': None}, families={family})
    assert f'# {family}' in text
    assert f'# {other}' not in text


def test_two_families_at_once_are_pointed_out():
    text = message({**ONEDL, 'mmdet': None}, families={'onedl', 'openmmlab'})
    assert 'Parents of both families are installed' in text


def test_original_mmdet_refuses_newer_mmcv():
    text = message({**OPENMMLAB, 'mmcv': '2.2.0'}, families={'openmmlab'})
    assert 'mmcv>=2.1.0,<2.2.0 is needed by mmdet 3.3.0' in text
    assert 'mmcv==2.1.0  # openmmlab' in text


def test_mmcv_without_ops():
    error = ModuleNotFoundError(
        "No module named 'mmcv._ext'", name='mmcv._ext'
    )
    text = message({**ONEDL, 'mmcv': '2.3.5'}, ops=error)
    assert 'mmcv 2.3.5 has no compiled ops (mmcv._ext is missing)' in text
    # Built again in the version that is there, not from the cached wheel.
    for word in (
        'MMCV_WITH_OPS=1',
        '--no-build-isolation',
        '--no-cache-dir',
        '--force-reinstall',
        'onedl-mmcv==2.3.5',
    ):
        assert word in text


def test_ops_of_another_torch():
    text = message(ONEDL, ops=ImportError('undefined symbol: _ZN3c10'))
    assert 'do not load' in text
    assert 'undefined symbol: _ZN3c10' in text


def test_torch_missing():
    error = ModuleNotFoundError("No module named 'torch'", name='torch')
    assert 'torch is not installed' in message(ONEDL, ops=error)


def test_all_problems_in_one_message():
    text = message({'mmengine': '0.9.0'}, families=())
    assert 'mmengine 0.9.0 is installed: too old' in text
    for name in ('mmcv', 'mmdet', 'mmpretrain'):
        assert f'but {name} is not installed' in text


@pytest.mark.parametrize(
    ('family', 'file'),
    [
        ('onedl', 'requirements.txt'),
        ('openmmlab', 'requirements/openmmlab.txt'),
    ],
)
def test_messages_and_requirement_files_agree(family, file):
    lines = (ROOT / file).read_text().splitlines()
    pins = {line.split('#')[0].strip() for line in lines}
    assert {getattr(parent, family) for parent in PARENTS} <= pins


def test_find_version(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / 'fake_parent'
    package.mkdir()
    assert find_version('fake_parent_missing') is None
    # What `pip uninstall` leaves when files of one's own are in the folder.
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
    assert 'mmcv 1.7.2 is installed: too old' in done.stderr
    assert 'AssertionError' not in done.stderr
