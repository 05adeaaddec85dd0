from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader

from mmfgl.utils.weights import CheckpointError, loader, use_safe_loading
from tests.strangers import Call

NAMES = {
    'https://example.org/a/model.pth?x=1': None,
    'torchvision://some': 'get_torchvision_models',
    'open-mmlab://some': 'get_external_models',
    'mmcls://some': 'get_mmcls_models',
}


@pytest.mark.parametrize('name', [*NAMES, 's3://bucket/model.pth', 'local'])
def test_whatever_the_name(name, tmp_path, monkeypatch):
    """Good and bad files by all the names that MMEngine knows."""
    mark = tmp_path / 'code_ran'
    source = tmp_path / 'source.pth'

    def fetch(url, path, progress):
        assert url.startswith('https://example.org/a/model.pth')
        Path(path).write_bytes(source.read_bytes())

    class Backend:
        def get(self, name):
            return source.read_bytes()

    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    monkeypatch.setattr(loader, 'get_file_backend', lambda name: Backend())
    if NAMES.get(name):
        url = 'https://example.org/a/model.pth'
        monkeypatch.setattr(loader, NAMES[name], lambda: dict(some=url))
    use_safe_loading()
    path = str(source) if name == 'local' else name
    torch.save(dict(state_dict={'backbone.a': torch.ones(1)}), source)
    state = CheckpointLoader.load_checkpoint(path)['state_dict']
    assert list(state) == ['a' if 'mmcls' in name else 'backbone.a']
    cached = tmp_path / 'hub/checkpoints/model.pth'
    assert cached.exists() == (name in NAMES)
    torch.save(dict(state_dict={}, extra=Call(Path.touch, mark)), source)
    cached.unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match='--trust-checkpoint'):
        CheckpointLoader.load_checkpoint(path)
    assert not mark.exists()
    use_safe_loading(trust=True)
    CheckpointLoader.load_checkpoint(path)
    assert mark.exists()


def test_pavi():
    use_safe_loading()
    with pytest.raises(CheckpointError, match='pavi'):
        CheckpointLoader.load_checkpoint('pavi://a')
