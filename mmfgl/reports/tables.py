"""Tables of reports: their cells as text, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


def markdown_table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 1
) -> str:
    """Make a Markdown table; columns without any text are set right.

    Cells are text, numbers (floats with so many ``digits``), or ``None`` or
    NaN for a dash. There is no line break at the end.
    """

    def shown(cells: Sequence[str]) -> list[str]:
        return [markdown_text(cell).replace('|', r'\|') for cell in cells]

    numeric = [
        not any(isinstance(row[index], str) for row in rows)
        for index in range(len(header))
    ]
    rule = ['--:' if right else ':--' for right in numeric]
    texts = [[cell_text(cell, digits) for cell in row] for row in rows]
    return '\n'.join(
        '| ' + ' | '.join(line) + ' |'
        for line in (shown(header), rule, *map(shown, texts))
    )


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, links or line breaks."""
    text = ' '.join(text.replace('&', '&amp;').replace('<', '&lt;').split())
    return text.replace('[', r'\[').replace('`', r'\`')


def cell_text(cell: Any, digits: int = 1) -> str:
    """A cell as it is shown."""
    if cell is None or cell != cell:  # NaN
        return '–'
    if isinstance(cell, float | np.floating):
        return f'{cell:.{digits}f}'
    return str(cell)


@dataclass
class Cell:
    """A cell of the page."""

    text: str
    value: Any  # a number to sort by, or ''
    best: bool = False
    bar: float = 0.0  # length of the bar behind it, in percent


@dataclass
class Column:
    """A column of the page."""

    name: str
    numeric: bool
    cells: list[Cell]


def columns_of(
    rows: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    bars: Sequence[str],
) -> list[Column]:
    """The columns of a table, in order of first appearance.

    Args:
        rows: Names of columns -> values, see :func:`markdown_table`; what is
            missing is a dash.
        best: Name of a column -> ``max`` or ``min``, which picks the values
            to stress among several rows.
        bars: Columns of numbers with a bar behind them, in percent.
    """
    columns = []
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        numeric = not any(isinstance(value, str) for value in values)
        cells = [
            Cell(cell_text(v), _number(v) if numeric else '') for v in values
        ]
        known = [cell for cell in cells if cell.value != '']
        if name in best and len(known) > 1:
            top = best[name](cell.value for cell in known)
            top = cell_text(float(top))
            for cell in known:
                cell.best = cell_text(float(cell.value)) == top
        if name in bars:
            for cell in known:
                cell.bar = min(max(float(cell.value), 0.0), 100.0)
        columns.append(Column(name, numeric, cells))
    return columns


def _number(value: Any) -> float | int | str:
    """A value to sort by; '' for a dash."""
    return '' if value is None or value != value else value
