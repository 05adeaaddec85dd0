"""Plots as PNG files in memory."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]


def plot_curves(
    curves: Mapping[str, Curve],
    xlabel: str = 'iteration',
    ylabel: str = 'loss',
) -> bytes:
    """Plot curves, name -> (x, y) points; return the bytes of a PNG file."""
    figure = Figure(figsize=(8, 4), layout='constrained')
    axes = figure.subplots()
    for name, points in curves.items():
        xs, ys = zip(*points, strict=True) if points else ((), ())
        axes.plot(xs, ys, label=name, marker='o' if len(points) < 3 else None)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    if curves:
        axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return buffer.getvalue()
