import logging
import sys
import warnings

from mmengine.logging import MMLogger, print_log

from mmfgl.utils.quiet import (
    end_quiet_start,
    logged_prints,
    quiet_imports,
    quieten,
)

WALL = 'The model and loaded state dict do not match exactly\nmissing keys'


def make_logger(tmp_path):
    """A logger of a run, on the terminal of now."""
    logger = MMLogger(str(tmp_path), log_file=str(tmp_path / 'x.log'))
    logger.setLevel('INFO')
    quieten(logger)
    return logger


def as_from(package, action, *args):
    """Call a function as code of a package does."""
    exec('call(*args)', dict(__name__=package, call=action, args=args))


def test_what_is_shown(tmp_path, capfd):
    logger = make_logger(tmp_path)
    as_from('mmengine.runner', logger.info, 'dump 1')
    as_from('mmdet.models', print_log, 'dump 2', logger)
    as_from('mmcv', print_log, WALL, logger, logging.WARNING)
    as_from('mmdet', logger.warning, 'mind this')
    as_from('mmfgl.engine', logger.info, 'said 1')
    as_from('users_module', print_log, 'said 2', logger)
    end_quiet_start(logger)
    as_from('mmengine.runner', logger.info, 'said 3')
    as_from('mmcv', print_log, WALL, logger, logging.WARNING)
    shown = capfd.readouterr().out
    for words in ('mind this', 'said 1', 'said 2', 'said 3'):
        assert words in shown
    assert 'dump' not in shown and 'missing keys' not in shown
    log = (tmp_path / 'x.log').read_text()
    assert 'dump 1' in log and 'dump 2' in log and WALL in log


def test_prints_are_logged(tmp_path, capfd):
    logger = make_logger(tmp_path)
    with logged_prints(logger):
        as_from('pycocotools.coco', print, 'index created!')
        as_from('users_module', print, 'mine')
        as_from('users_module', sys.stdout.write, '\r50 %')
    shown = capfd.readouterr().out
    assert 'mine\n' in shown and '\r50 %' in shown and 'index' not in shown
    assert 'index created!' in (tmp_path / 'x.log').read_text()


def test_imports(capsys):
    with warnings.catch_warnings(record=True) as seen, quiet_imports():
        print('Could not import OneDL. Skipping OneDL datasets.')
        print('another line')
        warnings.warn('of old', DeprecationWarning, stacklevel=1)
        warnings.warn('a real one', UserWarning, stacklevel=1)
    assert capsys.readouterr().out == 'another line\n'
    assert [str(x.message) for x in seen] == ['a real one']
