import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmfgl.utils.weights import (
    CheckpointError,
    check_checkpoint,
    check_weights,
    safe_load,
)


def torch_bytes(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def torchscript():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def archive(**files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as file:
        for name, content in files.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as file:
        file.addfile(tarfile.TarInfo('model.pth'))
    return buffer.getvalue()


def npz():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.zeros(3))
    return buffer.getvalue()


WEIGHTS = dict(state_dict=dict(weight=torch.arange(500.0)))
LEGACY = dict(_use_new_zipfile_serialization=False)
DETECTRON2 = dict(model={'a': np.zeros(2)}, matching_heuristics=True)
HTML = b'\xef\xbb\xbf\n<html lang="en"><title>Log in</title></html>'


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        (b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
        (b'/annex/objects/MD5-s1--1', 'git annex get'),
        (b'<!DOCTYPE html><title>404</title>', 'HTML page'),
        (HTML, 'HTML page'),
        (b'<?xml version="1.0"?><Error>AccessDenied</Error>', 'XML.*Denied'),
        (b'{"message": "Not Found"}', 'JSON text.*Not Found'),
        (b'{"weight_map": {}}', 'in several parts'),
        (b'Not Found', "a text: 'Not Found'"),
        (pickle.dumps(DETECTRON2), 'Detectron2'),
        (pickle.dumps({'a': 1}), 'a Python pickle'),
        (
            archive(**{'a.txt': 'a'}),
            'a zip archive .with a.txt.: .*\n.*unpack',
        ),
        (npz(), 'npz'),
        (tar(), 'a tar archive'),
        (gzip.compress(b'a'), 'gzip'),
        (torchscript(), 'TorchScript'),
        (b'\x89HDF\r\n\x1a\n' + bytes(99), 'HDF5'),
        (b'\x08\x08\x12\x07pytorch\x1a\x03', 'ONNX'),
        (b'\x93NUMPY', 'NumPy array'),
        (bytes(5000), 'zeros'),
        (bytes(range(1, 256)), 'unknown binary'),
        (b'', 'is incomplete .0 bytes'),
        (torch_bytes(WEIGHTS)[:900], 'is incomplete .900 bytes'),
        ((99).to_bytes(8, 'little') + b'{"a": ', 'is incomplete'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_files_are_called_what_they_are(tmp_path, content, words):
    path = tmp_path / 'model.pth'
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f'(?s){words}') as error:
        safe_load(path)
    assert str(path) in str(error.value)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match='is a folder'):
        check_checkpoint(str(tmp_path))
    with pytest.raises(FileNotFoundError, match='does not exist'):
        safe_load(tmp_path / 'none.pth')
    check_checkpoint('https://example.org/model.pth')


@pytest.mark.parametrize('size', [0, 900])
def test_what_a_training_starts_from_is_whole(tmp_path, size):
    cut = tmp_path / 'cut.pth'
    cut.write_bytes(torch_bytes(WEIGHTS)[:size])
    with pytest.raises(ValueError, match='to start from is incomplete'):
        check_weights(Config(dict(load_from=str(cut), model={})))
    init = dict(type='Pretrained', checkpoint=str(cut))
    model = dict(backbone=dict(init_cfg=init))
    with pytest.raises(ValueError, match='init_cfg is incomplete'):
        check_weights(Config(dict(model=model)))


@pytest.mark.parametrize('options', [{}, LEGACY], ids=['zip', 'legacy'])
def test_checkpoints_pass(tmp_path, options):
    path = tmp_path / 'model.pkl'  # the name does not matter
    path.write_bytes(torch_bytes(WEIGHTS, **options))
    loaded = safe_load(path)
    expected = WEIGHTS['state_dict']['weight']
    assert torch.equal(loaded['state_dict']['weight'], expected)


def test_one_flipped_byte_is_seen(tmp_path):
    path = tmp_path / 'model.pth'
    content = bytearray(torch_bytes(WEIGHTS))
    content[len(content) // 2] ^= 1  # in the tensor
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match='is damaged .*data/0'):
        safe_load(path)


def test_legacy_file_that_is_cut_off(tmp_path):
    path = tmp_path / 'model.pth'
    path.write_bytes(torch_bytes(WEIGHTS, **LEGACY)[:-100])
    with pytest.raises(CheckpointError, match='is damaged or cut off'):
        safe_load(path)


def test_safetensors_whatever_they_are_called(tmp_path):
    from safetensors.torch import save_file

    state = WEIGHTS['state_dict']
    path = tmp_path / 'model.pth'
    save_file(state, path, metadata=dict(format='pt'))
    assert torch.equal(safe_load(path)['weight'], state['weight'])
    header = json.dumps({}).encode()
    path.write_bytes(path.read_bytes()[: -len(header)])
    with pytest.raises(CheckpointError, match='is incomplete'):
        safe_load(path)
