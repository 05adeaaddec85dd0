from pathlib import Path

import pytest

import mmfgl
from mmfgl.utils.paths import installed


@pytest.mark.parametrize('name', ['configs', 'tools'])
def test_the_same_files_as_in_the_repository(name):
    folder = Path(mmfgl.__file__).resolve().parents[1] / name
    if not folder.is_dir():
        pytest.skip('mmfgl is installed from a wheel')

    assert installed(name) == folder


def test_a_model_index_lies_beside_them():
    assert 'configs/retod/metafile.yml' in installed(
        'model-index.yml'
    ).read_text(encoding='utf-8')


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match=r'no_such\.py is missing'):
        installed('configs', 'no_such.py')
