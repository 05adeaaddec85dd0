"""Files of strangers given to every tool that reads checkpoints."""

import pickle
import re
from pathlib import Path

import pytest
import torch

from mmfgl.registry import MODELS
from mmfgl.testing import tiny_fgl_cfg
from tests.strangers import Call
from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults

TOOLS = {
    'draw_candidates': 'analysis_tools/draw_candidates.py',
    'propose_regions': 'dataset_converters/propose_regions.py',
    'tta': 'benchmarks/tta.py',
    'transfer': 'benchmarks/transfer.py',
}


@pytest.fixture
def stranger(tmp_path):
    """A checkpoint with code, and the file that the code makes."""
    mark = tmp_path / 'code_ran'
    state = MODELS.build(tiny_fgl_cfg(num_classes=10)).state_dict()
    content = dict(state_dict=state, meta=dict(iter=1, epoch=0))
    path = tmp_path / 'stranger.pth'
    torch.save(content | dict(extra=Call(Path.touch, mark)), path)
    return path, mark


def refused(bench, result, path, mark):
    bench.seen(result[1][-200:])
    assert result[0] != 0
    assert not mark.exists()
    assert 'pass --trust-checkpoint' in result[1], result[1][-2000:]
    assert str(path) in result[1]


@pytest.mark.parametrize('way', ['load_from', 'init_cfg', 'resume', 'test'])
def test_runs_code(bench, data, stranger, way):
    """A pickle with code, for train.py and test.py: refused, does not run."""
    path, mark = stranger
    cfg, args, tool = detection(data), [], 'train.py'
    if way == 'load_from':
        cfg.load_from = str(path)
    elif way == 'init_cfg':
        init_cfg = dict(type='Pretrained', checkpoint=str(path))
        cfg.model.backbone.init_cfg = dict(init_cfg, prefix='backbone.')
    elif way == 'resume':
        args = ['--resume', path]
    else:
        args, tool = [path], 'test.py'
    result = bench.run(cfg, 'run', *args, tool=tool)
    refused(bench, result, path, mark)
    if way in ('load_from', 'test'):  # the attack is a real one
        flag = '--trust-checkpoint'
        code, output = bench.run(cfg, 'run2', *args, flag, tool=tool)
        assert code == 0, output[-2000:]
        assert mark.exists()


@pytest.mark.parametrize('name', TOOLS)
def test_runs_code_in_a_tool(bench, data, stranger, name):
    """A pickle with code, for the other tools: refused, does not run."""
    path, mark = stranger
    config = bench.folder / 'config.py'
    cfg = detection(data)
    if name == 'transfer':
        cfg = pretraining(data)
        init_cfg = dict(type='Pretrained', checkpoint=str(path))
        cfg.model.detector.backbone.init_cfg = init_cfg
    cfg.dump(str(config))
    image = next((data / 'val').iterdir())
    out = bench.folder / 'out'
    args = {
        'draw_candidates': [image, config, path, '--out', f'{out}.png'],
        'propose_regions': [
            *(data / 'unlabelled', '--out', f'{out}.json', '--workers', 0),
            *('--clusters', 2, '--teacher', config, path),
        ],
        'tta': [
            *('--config', config, '--checkpoint', path),
            *('--data-root', data, '--out', out),
        ],
        'transfer': [
            *('--data-root', data, '--init', 'random', '--out', out),
            *('--arms', f'mine={config}', '--pretrain-iters', 1),
            *('--finetune-iters', 1, '--seeds', 1),
        ],
    }
    result = bench.run(None, name, *args[name], tool=TOOLS[name])
    refused(bench, result, path, mark)


@pytest.mark.parametrize('way', ['load_from', 'test'])
@pytest.mark.parametrize('kind', ['lfs', 'html', 'pickle'])
def test_no_checkpoint(bench, data, kind, way):
    """No torch checkpoint, to start from or to test: says what it is."""
    path = bench.folder / 'model.pth'
    content, words = {
        'lfs': (b'version https://git-lfs.github.com/spec/v1', 'Git LFS'),
        'html': (b'<!DOCTYPE html><title>404</title>', 'HTML page'),
        'pickle': (pickle.dumps(dict(__author__='a')), 'Detectron2'),
    }[kind]
    path.write_bytes(content)
    cfg = detection(data)
    if way == 'load_from':
        cfg.load_from = str(path)
        result = bench.run(cfg, 'run')
    else:
        result = bench.run(cfg, 'run', path, tool='test.py')
    bench.stops(result, 'is no checkpoint but', words, str(path))


def test_wrong_prefix_of_init_cfg(bench, data):
    """Weights of an init_cfg with another prefix: says which to write."""
    cfg = detection(data)
    state = MODELS.build(cfg.model.backbone).state_dict()
    path = bench.folder / 'moco.pth'
    state = {f'module.encoder_q.{k}': v for k, v in state.items()}
    torch.save(dict(state_dict=state, epoch=200), path)
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    result = bench.run(cfg, 'run')
    bench.stops(result, 'conv1.weight', "prefix='module.encoder_q.'")
    cfg.model.backbone.init_cfg.prefix = 'module.encoder_q.'
    bench.trained(cfg, 'mended')


def test_load_from_without_chain_hook(bench, data):
    """load_from of another model, no chain hook: stops, names the keys."""
    cfg = detection(data)
    state = MODELS.build(cfg.model.backbone).state_dict()
    path = bench.folder / 'backbone.pth'
    torch.save({f'backbone.{k}': v for k, v in state.items()}, path)
    cfg.load_from = str(path)
    code, output = bench.run(cfg, 'run')
    bench.stops((code, output), 'fills only a part', 'complete: backbone')
    hook = re.findall('add (dict.*?\\)) to', ' '.join(output.split()))[-1]
    cfg.custom_hooks = [*cfg.custom_hooks, eval(hook)]
    bench.trained(cfg, 'mended')


def test_nan_weights(bench, data):
    """Weights that are NaN, to test or to start from: an error names them."""
    path = bench.trained(detection(data))
    content = torch.load(path, weights_only=False)
    content['state_dict']['backbone.conv1.weight'][0] = float('nan')
    torch.save(content, path)
    cfg = detection(data)
    words = 'NaN or infinite', 'backbone.conv1.weight'
    bench.stops(bench.run(cfg, 'test', path, tool='test.py'), *words)
    cfg.load_from = str(path)
    bench.stops(bench.run(cfg, 'run'), *words)
