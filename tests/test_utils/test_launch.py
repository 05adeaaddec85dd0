import pytest
import torch
from mmengine.config import Config

from mmfgl.utils.checks import check_weights
from mmfgl.utils.launch import check_checkpoint, set_resume


@pytest.fixture
def whole(tmp_path):
    path = tmp_path / 'whole.pth'
    torch.save(dict(state_dict=dict(weight=torch.randn(500))), path)
    return path


@pytest.fixture
def cut(whole, tmp_path):
    path = tmp_path / 'cut.pth'
    content = whole.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def test_complete_and_remote_checkpoints_pass(whole, tmp_path):
    check_checkpoint(str(whole))
    check_checkpoint('https://example.org/model.pth')
    old = tmp_path / 'old.pth'  # the format of PyTorch < 1.6
    torch.save({}, old, _use_new_zipfile_serialization=False)
    check_checkpoint(str(old))


def test_incomplete_checkpoints_are_an_error(cut, tmp_path):
    empty = tmp_path / 'empty.pth'
    empty.touch()
    for path in (cut, empty):
        with pytest.raises(ValueError, match='incomplete'):
            check_checkpoint(str(path))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        check_checkpoint(str(tmp_path / 'none.pth'))


def test_incomplete_checkpoints_stop_training(cut):
    with pytest.raises(ValueError, match='to resume from is incomplete'):
        set_resume(Config(), str(cut))
    with pytest.raises(ValueError, match='to start from is incomplete'):
        check_weights(Config(dict(load_from=str(cut), model={})))
    init = dict(type='Pretrained', checkpoint=str(cut))
    model = dict(backbone=dict(init_cfg=init))
    with pytest.raises(ValueError, match='init_cfg is incomplete'):
        check_weights(Config(dict(model=model)))
