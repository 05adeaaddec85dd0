import pytest
import torch
from mmengine.config import Config

from mmfgl.utils.weights import check_checkpoint, check_weights


@pytest.mark.parametrize('new', [True, False])  # that of PyTorch >= 1.6
def test_complete_and_remote_checkpoints_pass(tmp_path, new):
    path = tmp_path / 'model.pth'
    torch.save({}, path, _use_new_zipfile_serialization=new)
    check_checkpoint(str(path))
    check_checkpoint('https://example.org/model.pth')


@pytest.mark.parametrize('share', [0.5, 0])
def test_incomplete_checkpoints_stop_training(tmp_path, share):
    cut = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=dict(weight=torch.randn(500))), cut)
    content = cut.read_bytes()
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match='to start from is incomplete'):
        check_weights(Config(dict(load_from=str(cut), model={})))
    init = dict(type='Pretrained', checkpoint=str(cut))
    model = dict(backbone=dict(init_cfg=init))
    with pytest.raises(ValueError, match='init_cfg is incomplete'):
        check_weights(Config(dict(model=model)))
