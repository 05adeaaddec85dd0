import pytest

import mmfgl.deploy
from mmfgl.cli import COMMANDS, main, parse_args
from mmfgl.cli import predict as predict_command
from mmfgl.cli import run as run_command
from mmfgl.recipes import predicting, running


def test_arguments_of_run():
    args = parse_args(['run', 'photos', 'a.json', '--out', 'o', '--iters=3'])
    assert args.main is run_command.main
    assert (args.photos, args.labels, args.iters) == ('photos', 'a.json', 3)
    assert args.flip and not args.dry_run and args.minutes is None
    with pytest.raises(SystemExit):
        parse_args(['run', 'photos', '--out=o', '--iters=3', '--minutes=2'])
    with pytest.raises(SystemExit):
        parse_args(['run', 'photos'])


@pytest.mark.parametrize(
    ('module', 'command', 'argv', 'expected'),
    [
        (
            *(running, 'run'),
            ['photos', '--out=o', '--no-flip', '--dry-run'],
            dict(flip=False, dry_run=True, val=None, minutes=None),
        ),
        (
            *(predicting, 'predict'),
            ['dir', 'images', '--out=o', '--score-thr=0.5', '--tta'],
            dict(score_thr=0.5, tta=True),
        ),
    ],
)
def test_a_command_calls_its_function(
    module, command, argv, expected, monkeypatch
):
    calls = []

    def function(*args, **kwargs):
        calls.append((args, kwargs))

    monkeypatch.setattr(module, command, function)
    main([command, *argv])
    ((_, kwargs),) = calls
    assert expected.items() <= kwargs.items() and str(kwargs['out']) == 'o'


def test_export_calls_its_function(monkeypatch):
    calls = []
    monkeypatch.setattr(
        mmfgl.deploy, 'export', lambda *args, **more: calls.append(more)
    )
    main(['export', 'a.py', 'a.pth'])
    main(['export', 'a.py', 'a.pth', '--check', 'b', '--trust-checkpoint'])
    assert calls == [
        dict(out=None, check=[], trust=False),
        dict(out=None, check=['b'], trust=True),
    ]


def test_an_error_of_the_user_is_one_line(tmp_path):
    argv = ['predict', str(tmp_path), 'x', '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    text = str(ended.value.code)
    assert text.startswith('error: ') and '\n' not in text
    with pytest.raises(FileNotFoundError):
        main([*argv, '--debug'])


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        main(['--help'])
    shown = capsys.readouterr().out
    assert all(f'    {name} ' in shown for name in COMMANDS)
    for module in (run_command, predict_command):
        with pytest.raises(SystemExit):
            main([module.__name__.rpartition('.')[2], '--help'])
        shown = capsys.readouterr().out
        assert module.__doc__.splitlines()[0] in shown
    with pytest.raises(SystemExit):
        main([])


def test_an_interruption_is_one_line(monkeypatch, capsys):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, 'run', interrupted)
    with pytest.raises(SystemExit) as ended:
        main(['run', 'photos', '--out', 'o'])
    assert ended.value.code == 130
    assert capsys.readouterr().err == 'stopped: the same command goes on\n'
