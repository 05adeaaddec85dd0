import os

import pytest
import torch
from mmengine.config import Config

from mmfgl.utils import hand_over
from mmfgl.utils.hand_over import find_pretraining
from mmfgl.utils.weights import check_weights

RUN = 'retod_r50-fpn_8xb64-100e_coco'


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Save checkpoints of a run; the folder of all runs is elsewhere."""
    monkeypatch.chdir(tmp_path)

    def save(*names, root='work_dirs'):
        folder = tmp_path / root / RUN
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            torch.save(dict(state_dict={}), folder / name)
            (folder / 'last_checkpoint').write_text(str(folder / name))

    return save


def found(load_from, work_dir='work_dirs/detector', **options):
    cfg = Config(dict(load_from=load_from, work_dir=work_dir, **options))
    find_pretraining(cfg)
    return cfg.load_from


NAMED = f'work_dirs/{RUN}/epoch_100.pth'


def test_as_named(save):
    save('epoch_90.pth', 'epoch_100.pth', 'epoch_110.pth')
    assert found(NAMED) == NAMED
    assert found(None) is None


@pytest.mark.parametrize('named', [NAMED, f'work_dirs/{RUN}'])
def test_newest_of_the_run(save, named, monkeypatch):
    said = []
    monkeypatch.setattr(hand_over, 'print_log', lambda *x: said.append(x[0]))
    save('epoch_9.pth', 'epoch_10.pth')
    assert os.path.samefile(found(named), f'work_dirs/{RUN}/epoch_10.pth')
    warned = [text for text in said if f'{NAMED} is not there' in text]
    assert len(warned) == (named == NAMED)


def test_runs_kept_elsewhere(save):
    save('epoch_50.pth', root='runs')
    path = found(NAMED, 'runs/detector/')
    assert os.path.samefile(path, f'runs/{RUN}/epoch_50.pth')


def test_cut_off_one_is_passed_over(save):
    save('epoch_1.pth', 'epoch_2.pth')
    path = f'work_dirs/{RUN}/epoch_2.pth'
    os.truncate(path, os.path.getsize(path) // 2)
    assert found(NAMED).endswith('epoch_1.pth')
    os.truncate(f'work_dirs/{RUN}/epoch_1.pth', 10)
    with pytest.raises(ValueError, match='is whole'):
        found(NAMED)


@pytest.mark.parametrize('named', [NAMED, f'work_dirs/{RUN}/'])
def test_says_what_to_run(tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    config = rf'tools/train.py \S*configs/retod/{RUN}.py, or .*load_from='
    if named != NAMED:
        os.makedirs(named)
    with pytest.raises(FileNotFoundError, match=config):
        found(named)
    with pytest.raises(FileNotFoundError, match='--work-dir work_dirs/mine,'):
        found('work_dirs/mine/iter_1.pth')
    (tmp_path / 'mine.py').write_text('')
    with pytest.raises(FileNotFoundError, match='train.py mine.py'):
        found('work_dirs/mine/iter_1.pth')


@pytest.mark.parametrize(
    ('path', 'resume', 'hint'),
    [
        ('checkpoints/efficientnet-lite0_imagenet.pth', False, '--variant 0'),
        ('weights/mae.pth', False, 'does not exist'),
        (NAMED, True, 'does not exist'),
    ],
)
def test_other_files_are_left_alone(save, path, resume, hint):
    save('epoch_3.pth')
    assert found(path, resume=resume) == path
    with pytest.raises(FileNotFoundError, match=hint):
        check_weights(Config(dict(load_from=path, model={})))
