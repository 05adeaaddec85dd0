import sys
from pathlib import Path

import pytest

from mmfgl.cli import main
from mmfgl.cli.demo import find_examples
from mmfgl.recipes import trained as module
from mmfgl.recipes.trained import Trained

TRAINED = Trained(Path('a.py'), Path('a.pth'), 'Cells (ImageNet)', 0.42)


@pytest.fixture
def trained(monkeypatch):
    """Gives what was asked for instead of looking for it."""
    asked = []

    def find(*args):
        asked.append(args)
        return TRAINED

    monkeypatch.setattr(module, 'find_trained', find)
    monkeypatch.setattr(module, 'load_detector', lambda *args: args)
    return asked


def test_the_page_of_a_run(trained, monkeypatch, tmp_path, capsys):
    pytest.importorskip('gradio')
    from mmfgl.visualization import page

    calls = []
    monkeypatch.setattr(page, 'build_page', lambda *args: args)
    monkeypatch.setattr(page, 'serve', lambda *args: calls.append(args))
    (tmp_path / 'b.png').touch()
    argv = ['demo', 'run', '--port=9', '--device=cpu', '--examples']
    main([*argv, str(tmp_path)])
    (((model, *shown), port),) = calls
    assert trained == [('run', None)] and port == 9
    assert model == (TRAINED, 'cpu', False)
    assert shown == ['Cells (ImageNet)', [str(tmp_path / 'b.png')], 0.42]
    assert 'Cells (ImageNet): a.pth' in capsys.readouterr().out


def test_without_gradio_the_command_is_told(trained, monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmfgl.visualization.page', False)
    monkeypatch.setitem(sys.modules, 'gradio', None)
    with pytest.raises(SystemExit) as ended:
        main(['demo', 'run'])
    text = str(ended.value.code)
    assert "pip install 'mmfgl[demo]'" in text and '\n' not in text


def test_examples(tmp_path):
    with pytest.raises(FileNotFoundError, match='no image in'):
        find_examples(str(tmp_path))
