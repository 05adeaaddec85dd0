"""What tools/check_install.py says of parents that do not import."""

from types import SimpleNamespace

from tools import check_install


def test_parents_beside_a_transformers_too_new(monkeypatch, capsys):
    def fail(name):
        raise TypeError('NoneType takes no arguments')

    fake = SimpleNamespace(import_module=fail)
    monkeypatch.setattr(check_install, 'importlib', fake)
    monkeypatch.setattr(check_install, 'version', lambda name: '5.17.0')
    monkeypatch.setattr(
        check_install, 'check_packages', check_install.check_transformers
    )
    monkeypatch.setattr('sys.argv', ['check_install.py'])
    assert check_install.main() == 1
    said = capsys.readouterr().err
    assert 'beside transformers 5.17.0: pip uninstall -y transformers' in said


def test_parents_import():
    check_install.check_transformers()
