from pathlib import Path

import pytest

import mmfgl
from mmfgl.utils.paths import follow_move, installed


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


def test_follow_move(tmp_path):
    new = tmp_path / 'new'
    (new / 'test').mkdir(parents=True)
    (new / 'val.json').touch()
    for was in ('/old/test', '/old/place/test'):
        old = was.removesuffix('/test')
        path = follow_move(f'{old}/val.json', was, new / 'test')
        assert path == str(new / 'val.json')
        # what is not there, or lies elsewhere, is where it was
        for path in (f'{old}/gone.json', '/other/val.json', 'val.json'):
            assert follow_move(path, was, new / 'test') == path
    # a work dir that is named relative to nobody knows what
    assert follow_move('/old/val.json', 'test', new) == '/old/val.json'
