"""The faults of faults.py.

A case's docstring is its row: ``fault: what is expected``. It gets a bench
and a tiny data set of its own, and returns what was seen and whether that is
as expected.
"""

from __future__ import annotations

import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import torch
from faults_runs import Bench, detection, pretraining
from mmengine.config import Config

Seen = tuple[str, bool]


def _error(output: str) -> str:
    """The message of the exception that ended a run, on one line."""
    found = re.findall(r'^(\w+(?:\.\w+)*(?:Error|Exception)): ', output, re.M)
    if not found:
        return 'no error'
    text = output[output.rindex(f'{found[-1]}: ') :]
    return ' '.join(text.split())


def _stops(result: tuple[int, str], *words: str) -> Seen:
    """Expect an error that says these words."""
    code, output = result
    error = _error(output)
    missing = [word for word in words if word not in error]
    return error[:300], code != 0 and not missing


def _ends(result: tuple[int, str], pattern: str) -> Seen:
    """Expect a complete run whose output says something."""
    code, output = result
    found = re.search(pattern, output)
    seen = found.group() if found else f'nothing like "{pattern}"'
    if code:
        seen = f'stopped: {_error(output)}'
    return ' '.join(seen.split())[:300], code == 0 and bool(found)


def _load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def _cut(path: Path) -> Path:
    """A copy of a file that ends in the middle."""
    content = path.read_bytes()
    target = path.with_name('cut.pth')
    target.write_bytes(content[: len(content) // 2])
    return target


def _trained(
    bench: Bench, cfg: Config, name: str = 'first', iters: int = 4
) -> Path:
    code, output = bench.run(cfg, name)
    if code:
        raise RuntimeError(f'the faultless run failed: {_error(output)}')
    return bench.folder / name / f'iter_{iters}.pth'


def other_model(bench: Bench, data: Path) -> Seen:
    """Testing the checkpoint of another model: an error names the keys."""
    checkpoint = _trained(bench, pretraining(data))
    result = bench.run(
        detection(data), 'test', str(checkpoint), tool='test.py'
    )
    return _stops(result, 'does not belong to the model', 'bbox_head')


def wrong_prefix(bench: Bench, data: Path) -> Seen:
    """Checkpoint with wrong prefix: an error names modules and keys."""
    path = _trained(bench, pretraining(data))
    checkpoint = _load(path)
    state = checkpoint['state_dict']
    checkpoint['state_dict'] = {f'encoder.{k}': v for k, v in state.items()}
    torch.save(checkpoint, path)
    chain = dict(type='mmfgl.CheckpointChainHook', modules=['backbone'])
    cfg = detection(data, hooks=(chain,))
    cfg.load_from = str(path)
    return _stops(
        bench.run(cfg, 'second'),
        'does not load into the modules',
        'backbone.conv1.weight',
        'encoder',
    )


def missing_checkpoint(bench: Bench, data: Path) -> Seen:
    """Missing checkpoint: an error before training says what to do."""
    cfg = detection(data)
    cfg.load_from = 'work_dirs/none/iter_1.pth'
    return _stops(bench.run(cfg, 'run'), 'does not exist', 'load_from=')


def truncated_checkpoint(bench: Bench, data: Path) -> Seen:
    """Truncated checkpoint to start from: an error says incomplete."""
    cfg = detection(data)
    cfg.load_from = str(_cut(_trained(bench, pretraining(data))))
    return _stops(bench.run(cfg, 'second'), 'is incomplete')


def truncated_resume(bench: Bench, data: Path) -> Seen:
    """Truncated checkpoint to resume from: an error says incomplete."""
    cut = _cut(_trained(bench, pretraining(data)))
    result = bench.run(pretraining(data), 'second', '--resume', str(cut))
    return _stops(result, 'is incomplete')


def corrupt_image(bench: Bench, data: Path) -> Seen:
    """One unlabelled image is corrupt: the run goes on and names it."""
    images = sorted((data / 'unlabelled').iterdir())
    images[1].write_bytes(images[1].read_bytes()[:100])
    pattern = rf'skipped unreadable image \S*{re.escape(images[1].name)}'
    return _ends(bench.run(pretraining(data), 'run'), pattern)


def all_images_corrupt(bench: Bench, data: Path) -> Seen:
    """All unlabelled images are corrupt: an error says so."""
    for path in (data / 'unlabelled').iterdir():
        path.write_bytes(b'no image')
    return _stops(bench.run(pretraining(data), 'run'), 'could not be read')


def empty_folder(bench: Bench, data: Path) -> Seen:
    """The image folder is empty: an error names folder and file types."""
    for path in (data / 'unlabelled').iterdir():
        path.unlink()
    result = bench.run(pretraining(data), 'run')
    return _stops(result, 'no image found', '.jpg')


def missing_folder(bench: Bench, data: Path) -> Seen:
    """The data root does not exist: an error says what to do."""
    cfg = pretraining(data / 'elsewhere')
    return _stops(bench.run(cfg, 'run'), 'does not exist', 'data_root=DIR')


def class_count(bench: Bench, data: Path) -> Seen:
    """Wrong class count: an error names both counts."""
    result = bench.run(detection(data, num_classes=7), 'run')
    return _stops(result, 'num_classes=7', '10 classes')


def class_order(bench: Bench, data: Path) -> Seen:
    """Classes in another order than in the file: an error gives the order."""
    cfg = detection(data, classes=tuple('1023456789'))
    return _stops(bench.run(cfg, 'run'), 'another order', '0, 1, 2')


def class_name(bench: Bench, data: Path) -> Seen:
    """A class that the file lacks: an error names it."""
    cfg = detection(data, classes=(*'012345678', 'cat'))
    return _stops(bench.run(cfg, 'run'), 'cat', 'not among')


def _poisoned(bench: Bench, cfg: Config) -> Seen:
    seen, ok = _ends(
        bench.run(cfg, 'run'),
        r'step skipped, nothing has moved: loss not finite in iteration 2: '
        r'\w+ = nan; images of the batch: \S+, \S+',
    )
    saved = _load(bench.folder / 'run/iter_4.pth')['state_dict']
    finite = all(torch.isfinite(value).all() for value in saved.values())
    return (seen if finite else 'NaN in the weights'), ok and finite


def nan_pretraining(bench: Bench, data: Path) -> Seen:
    """NaN loss in pretraining: step skipped; loss and image files named."""
    poison = dict(type='mmengine.FaultPoison', iters=[1])
    cfg = pretraining(data, hooks=(poison,))
    return _poisoned(bench, cfg)


def nan_detection(bench: Bench, data: Path) -> Seen:
    """NaN loss in detection: step skipped; loss and image files named."""
    poison = dict(type='mmengine.FaultPoison', iters=[1])
    cfg = detection(data, hooks=(poison,))
    return _poisoned(bench, cfg)


def nan_always(bench: Bench, data: Path) -> Seen:
    """NaN loss in every step: training stops after five, and says why."""
    poison = dict(type='mmengine.FaultPoison', iters=list(range(20)))
    cfg = pretraining(data, iters=20, hooks=(poison,))
    result = bench.run(cfg, 'run')
    return _stops(result, '5 steps in a row', 'iteration 5', 'loss_distill')


def collapse(bench: Bench, data: Path) -> Seen:
    """Collapse on purpose (learning rate x 300): caught before a fifth."""
    cfg = pretraining(data, iters=200, interval=10**6)
    cfg.optim_wrapper.optimizer.lr = 0.3
    code, output = bench.run(cfg, 'run')
    found = re.search(r'collapse, seen in iteration (\d+) of 200', output)
    seen = _error(output)[:300]
    return seen, code != 0 and bool(found) and int(found.group(1)) < 40


def no_collapse(bench: Bench, data: Path) -> Seen:
    """Healthy run (control of the row above): no alarm."""
    cfg = pretraining(data, iters=60, interval=10**6)
    code, output = bench.run(cfg, 'run')
    alarm = 'collapse, seen' in output
    return 'alarm' if alarm else 'no alarm', code == 0 and not alarm


def _limit(size: int) -> None:
    """No file of this process may grow beyond ``size`` bytes."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def disk_full(bench: Bench, data: Path) -> Seen:
    """No room for a checkpoint: error; the one before is whole, resumable."""
    path = _trained(bench, pretraining(data, iters=2), 'run', 2)
    size = path.stat().st_size // 2
    cfg = pretraining(data)
    code, output = bench.run(
        cfg, 'run', '--resume', before=lambda: _limit(size)
    )
    seen, ok = _stops((code, output), 'could not be written', '--resume')
    files = sorted(p.name for p in path.parent.glob('*.pth'))
    _load(path)
    again, output = bench.run(cfg, 'run', '--resume')
    ok = ok and files == ['iter_2.pth'] and again == 0
    return seen if again == 0 else f'not resumable: {_error(output)}', ok


def _exactly(bench: Bench, make: Callable[..., Config]) -> Seen:
    straight = _load(_trained(bench, make(iters=4), 'straight'))
    cfg = make(iters=4)
    first = bench.folder / 'straight' / 'iter_2.pth'
    code, output = bench.run(cfg, 'resumed', '--resume', str(first))
    if code:
        return _error(output), False
    resumed = _load(bench.folder / 'resumed' / 'iter_4.pth')['state_dict']
    different = [
        key
        for key, value in straight['state_dict'].items()
        if not torch.equal(value, resumed[key])
    ]
    total = len(resumed)
    return f'{total - len(different)} of {total} tensors equal', not different


def resume_pretraining(bench: Bench, data: Path) -> Seen:
    """Pretraining stopped and resumed: weights and teacher bit-equal."""
    return _exactly(bench, lambda **kwargs: pretraining(data, **kwargs))


def resume_detection(bench: Bench, data: Path) -> Seen:
    """Detector stopped and resumed: weights bit-equal."""
    return _exactly(bench, lambda **kwargs: detection(data, **kwargs))


CASES = (
    other_model,
    wrong_prefix,
    missing_checkpoint,
    truncated_checkpoint,
    truncated_resume,
    corrupt_image,
    all_images_corrupt,
    empty_folder,
    missing_folder,
    class_count,
    class_order,
    class_name,
    nan_pretraining,
    nan_detection,
    nan_always,
    collapse,
    no_collapse,
    disk_full,
    resume_pretraining,
    resume_detection,
)
