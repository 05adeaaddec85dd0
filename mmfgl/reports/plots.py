"""Plots: PNG files, and SVG that takes the colours of the page around it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
#: Number of colours ``--s0``, ``--s1``, ... that the page defines.
NUM_COLOURS = 8
# Stand-ins, replaced by the colours of the page.
_TEXT, _LINE = '#0a0c00', '#0a0c01'
_SERIES = [f'#0a0b{index:02x}' for index in range(NUM_COLOURS)]
_STYLE = {
    'svg.fonttype': 'none',  # text stays text, in the fonts of the page
    'text.parse_math': False,  # names may have dollar signs
    'font.size': 9.5,
    'text.color': _TEXT,
    'axes.labelcolor': _TEXT,
    'axes.edgecolor': _LINE,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'xtick.color': _LINE,
    'ytick.color': _LINE,
    'xtick.labelcolor': _TEXT,
    'ytick.labelcolor': _TEXT,
    'grid.color': _LINE,
    'grid.linewidth': 0.6,
    'axes.axisbelow': True,
    'figure.facecolor': 'none',
    'axes.facecolor': 'none',
    'legend.frameon': False,
    'lines.linewidth': 1.6,
    'axes.prop_cycle': mpl.cycler(color=_SERIES),
}
_SIZE = (5.0, 2.9)  # inches of 72 pixels


def plot_curves(
    curves: Mapping[str, Curve],
    xlabel: str = 'iteration',
    ylabel: str = 'loss',
) -> bytes:
    """Plot curves, name -> (x, y) points; return the bytes of a PNG file."""
    figure = Figure(figsize=(8, 4), layout='constrained')
    axes = figure.subplots()
    _draw_curves(axes, curves, xlabel, ylabel)
    axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100)
    return buffer.getvalue()


def svg_curves(curves: Mapping[str, Curve], xlabel: str, ylabel: str) -> str:
    """Plot curves as the SVG of a page."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout='constrained')
        axes = figure.subplots()
        _draw_curves(axes, curves, xlabel, ylabel)
        axes.grid(axis='y')
        return _svg(figure)


def svg_bars(
    groups: Sequence[str], series: Mapping[str, Sequence[float]], xlabel: str
) -> str:
    """Horizontal bars as the SVG of a page.

    ``series`` map names to one value a group; the first is at the top.
    """
    height = 0.8 / max(len(series), 1)
    rows = len(groups) * len(series)
    with mpl.rc_context(_STYLE):
        size = (_SIZE[0], max(_SIZE[1], 1.0 + 0.12 * rows))
        figure = Figure(figsize=size, layout='constrained')
        axes = figure.subplots()
        for number, (name, values) in enumerate(series.items()):
            offset = (number + 0.5) * height - 0.4
            ys = [index + offset for index in range(len(values))]
            axes.barh(ys, values, height * 0.9, label=_short(name))
        axes.set_yticks(range(len(groups)), [_short(name) for name in groups])
        axes.invert_yaxis()
        axes.set(xlabel=xlabel)
        axes.grid(axis='x')
        _legend(axes, series)
        return _svg(figure)


def _draw_curves(
    axes: Axes, curves: Mapping[str, Curve], xlabel: str, ylabel: str
) -> None:
    for name, points in curves.items():
        xs, ys = zip(*points, strict=True) if points else ((), ())
        marker = 'o' if len(points) < 3 else None
        axes.plot(xs, ys, label=_short(name), marker=marker)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _legend(axes, curves)


def _legend(axes: Axes, names: Iterable[str]) -> None:
    """A legend above the plot, where there is something to tell apart."""
    names = list(names)
    if len(names) > 1:
        columns = 2 if max(map(len, names)) <= 24 else 1
        axes.figure.legend(
            loc='outside upper left', ncols=columns, fontsize='small'
        )


def _short(name: str, length: int = 36) -> str:
    """A name that leaves room for the plot; a leading _ hides no legend."""
    name = f'\u200b{name}' if name.startswith('_') else name
    return name if len(name) <= length else f'{name[: length - 1]}…'


def _svg(figure: Figure) -> str:
    """An SVG element whose colours are those of the page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    figure.savefig(buffer, format='svg', metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index('<svg') :]
    # several plots share a page: ids that nothing refers to go
    svg = re.sub(r' id="[a-z0-9A-Z]+_\d+"', '', svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', '', svg, count=2)
    svg = svg.replace(_TEXT, 'currentColor').replace(_LINE, 'var(--line)')
    for index, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f'var(--s{index})')
    return svg.strip()
