#!/usr/bin/env python
"""The whole chain on the embedded digit scenes, then a report.

Builds data and ImageNet weights, finds regions in the unlabelled images,
adapts the weights to them by ReToD pretraining, fine-tunes the detector with
and without it at the same budget, tests both plain and with test-time
augmentation, and writes report.html and report.md. Steps already done are
skipped.

    python tools/quickstart.py --out work_dirs/quickstart
"""

import argparse
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from mmengine.config import Config

from mmfgl.utils.reports import (
    Report,
    machine_settings,
    read_curve,
    read_metrics,
)
from mmfgl.utils.steps import Step, StepRunner
from mmfgl.utils.user_errors import add_debug_argument, user_errors

ROOT = Path(__file__).resolve().parents[1]
DATA = 'data/digit_scenes'
WEIGHTS = 'checkpoints/efficientnet-lite0_imagenet.pth'
# Name of a training run -> its config.
FGL = 'configs/fgl_faster_rcnn/fgl-faster-rcnn_efficientnet-lite0'
CONFIGS = {
    'pretrain': 'configs/retod/'
    'objectness_efficientnet-lite0-fpn_1xb8-200_digit-scenes.py',
    'imagenet': f'{FGL}_fpn_1xb8-150_digit-scenes.py',
    'objectness': f'{FGL}-objectness_fpn_1xb8-150_digit-scenes.py',
}
ARMS = {'imagenet': 'ImageNet', 'objectness': 'ImageNet, then objectness'}
MODES = {'plain': [], 'tta': ['--tta']}
# Metrics and their names in the logs.
AP = {'AP': 'bbox_mAP', 'AP50': 'bbox_mAP_50', 'AP75': 'bbox_mAP_75'}
# Expected durations on 2 cores.
SECONDS = dict(data=20, weights=10, regions=50, pretrain=170)
SECONDS |= dict(imagenet=200, objectness=200, plain=15, tta=30)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('--out', default='work_dirs/quickstart', help='folder')
    add_debug_argument(parser)
    return parser.parse_args()


def make_steps(out: Path) -> list[Step]:
    """List the steps of the quickstart in order."""
    command = ['tools/dataset_converters/digit_scenes.py', '--out', DATA]
    outputs = [Path(DATA, 'annotations', 'train.json')]
    data = Step('data', command, outputs, SECONDS['data'])
    command = ['tools/model_converters/efficientnet_lite.py']
    command += ['--out', WEIGHTS]
    weights = Step('weights', command, [Path(WEIGHTS)], SECONDS['weights'])
    config = CONFIGS['pretrain']
    cfg = Config.fromfile(config)
    command = ['tools/dataset_converters/propose_regions.py']
    command += [f'{DATA}/unlabelled', f'--out={cfg.proposals}', '--workers=2']
    command += ['--cfg-options', 'mode=single', 'max_regions=15']
    command += [f'--clusters={cfg.num_clusters}']
    command += ['--teacher', config, WEIGHTS]
    outputs, needs = [Path(cfg.proposals)], [data, weights]
    regions = Step('regions', command, outputs, SECONDS['regions'], needs)
    pretrain = train_step(out, 'pretrain', [regions])
    trained = [
        train_step(out, 'imagenet', needs),
        train_step(out, 'objectness', [pretrain]),
    ]
    tests = [test_step(out, step, mode) for step in trained for mode in MODES]
    return [data, weights, regions, pretrain, *trained, *tests]


def train_step(out: Path, key: str, needs: list[Step]) -> Step:
    """Describe a training run."""
    config, folder = CONFIGS[key], out / key
    command = ['tools/train.py', config, '--work-dir', str(folder)]
    if key == 'objectness':
        command += ['--cfg-options', f'load_from={out}/pretrain/LATEST']
    outputs, seconds = [folder / 'last_checkpoint'], SECONDS[key]
    return Step(
        key, command, outputs, seconds, needs, config, folder, resumable=True
    )


def test_step(out: Path, train: Step, mode: str) -> Step:
    """Describe the test of a trained detector."""
    folder = out / f'test-{train.name}-{mode}'
    command = ['tools/test.py', train.config, f'{train.work_dir}/LATEST']
    command += ['--work-dir', str(folder), *MODES[mode]]
    name, seconds = folder.name, SECONDS[mode]
    return Step(
        name, command, [folder], seconds, [train], train.config, folder
    )


def results(out: Path, seconds: dict[str, float]) -> list[dict]:
    """Make the rows of the table of results."""
    rows = []
    for arm, name in ARMS.items():
        batch = Config.fromfile(CONFIGS[arm]).test_dataloader.batch_size
        pretraining = 0.0
        if arm == 'objectness':
            pretraining = seconds['regions'] + seconds['pretrain']
        for mode in MODES:
            metrics = read_metrics(out / f'test-{arm}-{mode}')
            rows.append(
                {
                    'initialisation': name,
                    'test': 'plain' if mode == 'plain' else 'RoI TTA',
                    **{k: 100 * metrics.get(f'coco/{AP[k]}', 0.0) for k in AP},
                    'pretraining, s': pretraining,
                    'fine-tuning, s': seconds[arm],
                    'test, ms per image': 1000 * metrics['time'] / batch,
                }
            )
    return rows


def pictures(out: Path, count: int = 4) -> list:
    """Draw truth and detections of both arms on some val images."""
    from mmengine.registry import init_default_scope
    from mmengine.runner import find_latest_checkpoint

    from mmfgl.utils.reports.pictures import detection_pictures, side_by_side
    from mmfgl.utils.weights import use_safe_loading

    use_safe_loading()
    init_default_scope('mmdet')
    drawn = {
        arm: detection_pictures(
            CONFIGS[arm],
            find_latest_checkpoint(out / arm),
            range(count),
            height=360,
            score_thr=0.2,
        )
        for arm in ARMS
    }
    names = ['truth', *ARMS.values()]
    caption = 'Val image %d, from the left: ' + '; '.join(names)
    rows = []
    for index in range(count):
        truth = drawn['objectness'][index][0]
        panels = [truth, *(drawn[arm][index][1] for arm in ARMS)]
        rows.append((caption % (index + 1), side_by_side(panels)))
    return rows


def write_report(out: Path, steps: list[Step], seconds: dict) -> Path:
    """Write ``report.html`` and ``report.md``."""
    config = Config.fromfile(CONFIGS['objectness'])
    settings = machine_settings() | {
        'seed': config.get('randomness', {}).get('seed', 'not set'),
        **{f'config: {key}': path for key, path in CONFIGS.items()},
    }
    commands = [f'python {" ".join(s.resolved_command())}' for s in steps]
    report = Report(
        'mmfgl quickstart: digit scenes',
        'A detector fine-tuned at the same budget from ImageNet weights, and '
        'from the same weights adapted on unlabelled images first, by '
        'the objectness task of ReToD. '
        'One seed on a small data set: it shows that the chain works, not '
        'how good it is.',
    )
    report.add_table('Results', results(out, seconds), 'AP in percent.')
    report.add_curves(
        'Pretraining', {'objectness': read_curve(out / 'pretrain')}
    )
    curves = {name: read_curve(out / arm) for arm, name in ARMS.items()}
    report.add_curves('Fine-tuning', curves)
    report.add_pictures('Detections', pictures(out))
    rows = [{'setting': k, 'value': str(v)} for k, v in settings.items()]
    report.add_table('Settings', rows)
    report.add_code('Commands', '\n'.join(commands))
    return report.write(out)


def main() -> None:
    """Run the chain, see the module's docstring."""
    args = parse_args()
    with user_errors(args.debug):
        run(args)


def run(args: argparse.Namespace) -> None:
    """Run all steps and write the report."""
    out = Path(os.path.relpath(args.out, ROOT))
    os.chdir(ROOT)
    start = time.monotonic()
    steps = make_steps(out)
    expected = sum(step.seconds for step in steps) / 60
    print(f'Expect about {expected:.0f} min in all, on 2 cores.', flush=True)
    seconds = StepRunner(out).run(steps)
    print('report: drawing pictures', flush=True)
    log = open(out / 'steps' / 'report.log', 'w')  # noqa: SIM115
    with log, redirect_stdout(log), redirect_stderr(log):
        page = write_report(out, steps, seconds)
    minutes = (time.monotonic() - start) / 60
    print((out / 'report.md').read_text().split('\n## ')[1])
    print(f'Done in {minutes:.1f} min: {page}')


if __name__ == '__main__':
    main()
