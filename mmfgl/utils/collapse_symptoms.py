"""What the signs of a collapse mean, and what helps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Symptom:
    """One sign of collapse: what it means, and what helps."""

    meaning: str
    remedy: str


SYMPTOMS = dict(
    uniform=Symptom(
        'targets are uniform: they say nothing about their regions',
        'lower the temperature of the targets, or the learning rate',
    ),
    one_hot=Symptom(
        'targets are one-hot on few prototypes',
        "raise the temperature of the targets, or use mode='sinkhorn'",
    ),
    same=Symptom(
        'all regions get the same target',
        "use mode='sinkhorn', or let the centre follow (centre_momentum 0.9)",
    ),
    rank=Symptom(
        'region tokens fill few dimensions',
        'lower the learning rate, lengthen its warm-up, raise the momentum '
        'of the teacher',
    ),
    copied=Symptom(
        'student and teacher agree while their tokens lose rank',
        'raise the momentum of the teacher, mask more, use stronger '
        'augmentations',
    ),
)


def describe_collapse(
    since: dict[str, int], now: int, length: int, stats: dict[str, float]
) -> str:
    """What to tell of a collapse.

    Args:
        since: Name of each symptom and the iteration it began in.
        now: Current iteration.
        length: Iterations of the run.
        stats: Values to show.

    Returns:
        Text of several lines.
    """
    lines = [
        f'collapse, seen in iteration {now} of {length} ({now / length:.0%}):'
    ]
    for name, start in since.items():
        symptom = SYMPTOMS[name]
        lines.append(
            f'  - {name}: {symptom.meaning} (since iteration {start}). '
            f'To try: {symptom.remedy}'
        )
    values = ', '.join(f'{k} {v:.3g}' for k, v in stats.items())
    return '\n'.join([*lines, f'  values: {values}'])
