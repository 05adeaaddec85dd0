"""Faults injected into tiny runs of the tools on a CPU.

A docstring is a row of the table that tools/benchmarks/faults.py makes:
``fault: what is expected``.
"""

import re
import resource
import signal

import pytest
import torch

from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def test_other_model(bench, data, checkpoint):
    """Testing the checkpoint of another model: an error names the keys."""
    result = bench.run(detection(data), 'test', checkpoint, tool='test.py')
    bench.stops(result, 'does not belong to the model', 'bbox_head')


def test_wrong_prefix(bench, data, checkpoint):
    """Checkpoint with wrong prefix: an error names modules and keys."""
    content = load(checkpoint)
    state = content['state_dict']
    content['state_dict'] = {f'encoder.{k}': v for k, v in state.items()}
    torch.save(content, checkpoint)
    chain = dict(type='mmfgl.CheckpointChainHook', modules=['backbone'])
    cfg = detection(data, hooks=(chain,))
    cfg.load_from = str(checkpoint)
    words = ('does not load into the modules', 'backbone.conv1.weight')
    bench.stops(bench.run(cfg, 'second'), *words, 'encoder')


def test_missing_checkpoint(bench, data):
    """Missing checkpoint: an error before training says what to do."""
    cfg = detection(data)
    cfg.load_from = 'work_dirs/none/iter_1.pth'
    bench.stops(bench.run(cfg, 'run'), 'no checkpoint yet', 'load_from=')


@pytest.mark.parametrize('resume', [False, True], ids=['start', 'resume'])
def test_truncated_checkpoint(bench, data, checkpoint, resume):
    """Truncated checkpoint, to start or resume from: an error says so."""
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: len(content) // 2])
    cfg, flags = pretraining(data), ['--resume', checkpoint] * resume
    if not resume:
        cfg.load_from = str(checkpoint)
    bench.stops(bench.run(cfg, 'second', *flags), 'is incomplete')


def test_corrupt_image(bench, data):
    """One unlabelled image is corrupt: the run goes on and names it."""
    images = sorted((data / 'unlabelled').iterdir())
    images[1].write_bytes(images[1].read_bytes()[:100])
    pattern = rf'skipped unreadable image \S*{re.escape(images[1].name)}'
    bench.ends(bench.run(pretraining(data), 'run'), pattern)


def test_all_images_corrupt(bench, data):
    """All unlabelled images are corrupt: an error says so."""
    for path in (data / 'unlabelled').iterdir():
        path.write_bytes(b'no image')
    bench.stops(bench.run(pretraining(data), 'run'), 'could not be read')


def test_empty_folder(bench, data):
    """The image folder is empty: an error names folder and file types."""
    for path in (data / 'unlabelled').iterdir():
        path.unlink()
    result = bench.run(pretraining(data), 'run')
    bench.stops(result, 'no image found', '.jpg')


def test_missing_folder(bench, data):
    """The data root does not exist: an error says what to do."""
    cfg = pretraining(data / 'elsewhere')
    bench.stops(bench.run(cfg, 'run'), 'does not exist', 'data_root=DIR')


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (dict(num_classes=7), ('num_classes=7', '10 classes')),
        (
            dict(classes=tuple('1023456789')),
            ('another order', "'0', '1', '2'"),
        ),
        (dict(classes=(*'012345678', 'cat')), ('cat', 'not among')),
    ],
    ids=['count', 'order', 'name'],
)
def test_classes(bench, data, wrong, words):
    """Wrong count, order or name of a class: an error gives the right ones."""
    bench.stops(bench.run(detection(data, **wrong), 'run'), *words)


@pytest.mark.parametrize('kind', [pretraining, detection])
def test_nan(bench, data, kind):
    """NaN loss in a step: step skipped; loss and image files named."""
    poison = dict(type='mmengine.FaultPoison', iters=[1])
    result = bench.run(kind(data, hooks=(poison,)), 'run')
    pattern = 'step skipped.*: loss not finite in iteration 2: '
    pattern += r'\w+ = nan; images of the batch: \S+, \S+'
    bench.ends(result, pattern)
    saved = load(bench.folder / 'run/iter_4.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_nan_always(bench, data):
    """NaN loss in every step: training stops after five, and says why."""
    poison = dict(type='mmengine.FaultPoison', iters=list(range(20)))
    cfg = pretraining(data, iters=20, hooks=(poison,))
    words = ('5 steps in a row', 'iteration 5', 'loss_')
    bench.stops(bench.run(cfg, 'run'), *words)


def test_collapse(bench, data):
    """Collapse on purpose (learning rate x 1,000): caught before a fifth."""
    cfg = pretraining(data, iters=200, interval=10**6)
    cfg.optim_wrapper.optimizer.lr = 1.0
    result = bench.run(cfg, 'run')
    bench.stops(result, 'collapse, seen in iteration')
    found = re.search(r'collapse, seen in iteration (\d+) of 200', result[1])
    assert int(found.group(1)) < 40


def test_no_collapse(bench, data):
    """Healthy run (learning rate x 0.3, the control): no alarm."""
    cfg = pretraining(data, iters=30, interval=10**6)
    cfg.optim_wrapper.optimizer.lr = 3e-4
    code, output = bench.run(cfg, 'run')
    alarm = 'collapse, seen' in output
    bench.seen('alarm' if alarm else 'no alarm')
    assert code == 0 and not alarm


def test_disk_full(bench, data):
    """No room for a checkpoint: error; the one before is whole, resumable."""
    path = bench.trained(pretraining(data, iters=2), 'run', 2)
    size = path.stat().st_size // 2

    def limit():  # no file of the child may grow beyond it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    cfg = pretraining(data)
    result = bench.run(cfg, 'run', '--resume', before=limit)
    bench.stops(result, 'could not be written', '--resume')
    assert [p.name for p in path.parent.glob('*.pth')] == ['iter_2.pth']
    assert bench.trained(cfg, 'run', 4, '--resume').exists()
