"""Which classes a detector takes for which, in words and as a picture."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mmfgl.utils.names import without_formulas


def confused_pairs(
    confusion: np.ndarray, classes: Sequence[str], top: int
) -> list[dict]:
    """The classes that are taken for each other most often.

    Args:
        confusion: (C, C + 1) counts of :class:`.MatchStatistics`.
        classes: Names of the C classes.
        top: Number of pairs.

    Returns:
        Up to ``top`` dicts, the most frequent first: ``true`` and
        ``predicted`` class, ``count``, and ``share`` of the true class's
        objects. Pairs that never happen are left out.
    """
    wrong = confusion[:, :-1] * (1 - np.eye(len(classes), dtype=int))
    order = np.argsort(-wrong, axis=None, kind='stable')[:top]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [
        dict(
            true=classes[true],
            predicted=classes[predicted],
            count=int(wrong[true, predicted]),
            share=round(wrong[true, predicted] / confusion[true].sum(), 4),
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    ]


def plot_confusion(
    confusion: np.ndarray, classes: Sequence[str], path: str
) -> None:
    """Draw a confusion matrix into a PNG file; needs no display.

    Each row shows the shares of a class's objects; the last column, those
    that were missed. Up to 25 classes the cells are labelled, in percent.

    Arguments are those of :func:`confused_pairs`.
    """
    totals = confusion.sum(axis=1)
    shares = confusion / np.maximum(totals, 1)[:, None]
    rows, columns = shares.shape
    side = min(max(4.0, 0.45 * columns), 40.0)
    figure = Figure(figsize=(side + 1.5, side), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap='Blues', aspect='auto')
    figure.colorbar(image, label="share of the class's objects")
    classes = list(map(without_formulas, classes))
    axes.set_xticks(range(columns), [*classes, 'missed'], rotation=90)
    names = [f'{c} ({n})' for c, n in zip(classes, totals, strict=True)]
    axes.set_yticks(range(rows), names)
    axes.set(xlabel='predicted class', ylabel='true class (objects)')
    if rows <= 25:
        style = dict(ha='center', va='center')
        for (row, column), share in np.ndenumerate(shares):
            if share > 0:
                style['color'] = 'white' if share > 0.5 else 'black'
                axes.text(column, row, f'{100 * share:.0f}', **style)
    figure.savefig(path, format='png', dpi=100)
