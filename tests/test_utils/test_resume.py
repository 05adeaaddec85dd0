import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmfgl.utils.resume import (
    find_checkpoint,
    set_aside,
    set_resume,
)
from mmfgl.utils.weights import DamagedCheckpointError


@pytest.fixture
def folder(tmp_path):
    """A work dir with two checkpoints, the older one with the newer time."""
    for number in (10, 9):
        save(tmp_path / f'iter_{number}.pth')
    save(tmp_path / 'best_iter_9.pth')
    point(tmp_path, '/moved/since/iter_9.pth')
    return tmp_path


def save(path):
    torch.save(dict(state_dict=dict(weight=torch.randn(500))), path)


def point(folder, text):
    (folder / 'last_checkpoint').write_text(text)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def found(folder):
    path = find_checkpoint(str(folder))
    return path and Path(path).name


def files(folder):
    return {p.name for p in folder.iterdir() if p.is_file()}


def test_pointer_is_looked_up_in_the_work_dir(folder, capsys):
    assert found(folder) == 'iter_9.pth'
    assert not capsys.readouterr().out


@pytest.mark.parametrize('pointer', [None, '', 'iter_11.pth', '/a/iter_3.pth'])
def test_newest_by_number_without_a_good_pointer(folder, caplog, pointer):
    (folder / 'last_checkpoint').unlink()
    if pointer is not None:
        point(folder, pointer)
    assert found(folder) == 'iter_10.pth'


def test_pointer_elsewhere(folder, tmp_path_factory):
    """``out_dir`` of the hook is another folder than the work dir."""
    other = tmp_path_factory.mktemp('other') / 'iter_12.pth'
    save(other)
    point(folder, str(other))
    assert find_checkpoint(str(folder)) == str(other)


def test_cut_off_files_are_passed_over(folder, capsys):
    cut(folder / 'iter_9.pth')
    assert found(folder) == 'iter_10.pth'
    (folder / 'iter_10.pth').write_bytes(b'')
    assert found(folder) == 'best_iter_9.pth'
    cut(folder / 'best_iter_9.pth')
    with pytest.raises(ValueError, match='No checkpoint .* is whole') as error:
        found(folder)
    for name, size in (('iter_9', 1000), ('iter_10', 0)):
        text = f'is incomplete ({size} bytes): {folder}/{name}.pth'
        assert text in str(error.value)


def test_changed_content_is_an_error(folder):
    flip(folder / 'iter_9.pth')
    with pytest.raises(DamagedCheckpointError, match=r'is damag.*iter_9\.pth'):
        found(folder)
    with pytest.raises(DamagedCheckpointError):
        set_resume(Config(), str(folder / 'iter_9.pth'))


def test_old_format_and_folders_pass(tmp_path):
    path = tmp_path / 'iter_1.pth'
    torch.save({}, path, _use_new_zipfile_serialization=False)
    assert found(tmp_path) == 'iter_1.pth'
    (tmp_path / 'iter_2.pth').mkdir()  # sharded
    point(tmp_path, 'iter_2.pth')
    assert found(tmp_path) == 'iter_2.pth'


@pytest.mark.parametrize('empty', [True, False])
def test_nothing_to_resume(tmp_path, empty):
    folder = tmp_path if empty else tmp_path / 'none'
    cfg = Config(dict(work_dir=str(folder), load_from='pretrained.pth'))
    set_resume(cfg, 'auto')
    assert (cfg.resume, cfg.load_from) == (False, 'pretrained.pth')


@pytest.mark.parametrize('share', [0.5, 0])
def test_incomplete_checkpoints_stop_training(folder, share):
    path = folder / 'iter_9.pth'
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match='to resume from is incomplete'):
        set_resume(Config(), str(path))
    with pytest.raises(FileNotFoundError, match='to resume from'):
        set_resume(Config(), 'none.pth')


@pytest.mark.parametrize(
    ('resume', 'in_config', 'restarts', 'expected'),
    [
        (None, None, 0, None),
        (None, True, 0, 'iter_9.pth'),
        (None, None, 1, 'iter_9.pth'),
        ('iter_10.pth', None, 0, 'iter_10.pth'),
        # what has been reached since counts
        ('iter_10.pth', None, 1, 'iter_9.pth'),
    ],
)
@pytest.mark.parametrize('name', ['TORCHELASTIC', 'SLURM'])
def test_what_is_resumed(
    folder, monkeypatch, resume, in_config, restarts, expected, name
):
    monkeypatch.setenv(f'{name}_RESTART_COUNT', str(restarts))
    cfg = Config(dict(work_dir=str(folder)))
    if in_config:
        cfg.resume = True
    set_resume(cfg, resume and str(folder / resume))
    assert bool(cfg.get('resume')) == (expected is not None)
    assert expected is None or cfg.load_from == str(folder / expected)


def test_a_new_run_moves_an_earlier_one_aside(folder):
    for name in ('start.pth', 'init.pth'):
        save(folder / name)
    cfg = Config(
        dict(
            work_dir=str(folder),
            load_from=os.path.relpath(folder / 'start.pth'),
            model=dict(init_cfg=[dict(checkpoint=str(folder / 'init.pth'))]),
        )
    )
    before = files(folder)
    set_aside(cfg)
    assert files(folder) == {'start.pth', 'init.pth'}
    assert files(folder / 'earlier_run_1') == before - files(folder)
    set_aside(cfg)
    assert not (folder / 'earlier_run_2').exists()
    save(folder / 'iter_1.pth')
    set_aside(cfg)
    assert files(folder / 'earlier_run_2') == {'iter_1.pth'}


def test_checkpoints_of_another_folder_are_moved_aside_too(tmp_path):
    out = tmp_path / 'disk/run'
    out.mkdir(parents=True)
    (tmp_path / 'run').mkdir()
    save(out / 'iter_1.pth')
    point(tmp_path / 'run', str(out / 'iter_1.pth'))
    hooks = dict(checkpoint=dict(out_dir=str(tmp_path / 'disk')))
    cfg = Config(dict(work_dir=f'{tmp_path}/run/', default_hooks=hooks))
    assert found(tmp_path / 'run') == 'iter_1.pth'
    set_aside(cfg)
    assert files(out) == set() and not files(tmp_path / 'run')
    moved = {'iter_1.pth', 'last_checkpoint'}
    assert files(out / 'earlier_run_1') == moved
    assert not (tmp_path / 'run/last_checkpoint').exists()


@pytest.mark.parametrize('name', ['iter_10.pth', 'iter_9.pth', 'elsewhere'])
def test_going_back_moves_newer_files_aside(folder, name):
    for number in (9, 10):
        save(folder / f'best_coco_bbox_mAP_iter_{number}.pth')
    before = files(folder)
    path = str(folder / name)
    set_aside(Config(dict(work_dir=str(folder), resume=True, load_from=path)))
    moved = {
        'iter_10.pth': set(),
        'iter_9.pth': {'iter_10.pth', 'best_coco_bbox_mAP_iter_10.pth'},
        'elsewhere': before,
    }[name]
    assert files(folder) == before - moved
