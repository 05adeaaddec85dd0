"""Tables of reports, in Markdown and HTML."""

import html
from collections.abc import Sequence
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

    rule = ['--:' if right else ':--' for right in _numeric(header, rows)]
    return '\n'.join(
        '| ' + ' | '.join(line) + ' |'
        for line in (shown(header), rule, *map(shown, _texts(rows, digits)))
    )


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is: no HTML, links or line breaks."""
    text = ' '.join(text.replace('&', '&amp;').replace('<', '&lt;').split())
    return text.replace('[', r'\[').replace('`', r'\`')


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 1
) -> str:
    """Make the HTML of the same table; see :func:`markdown_table`."""
    kinds = [
        '' if right else ' class="text"' for right in _numeric(header, rows)
    ]

    def row(tag: str, cells: Sequence[str]) -> str:
        return ''.join(
            f'<{tag}{kind}>{html.escape(cell)}</{tag}>'
            for kind, cell in zip(kinds, cells, strict=True)
        )

    lines = [f'<tr>{row("td", line)}</tr>' for line in _texts(rows, digits)]
    head = f'<table><tr>{row("th", header)}</tr>\n'
    return head + '\n'.join(lines) + '</table>'


def _numeric(
    header: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[bool]:
    """Whether each column is free of text."""
    return [
        not any(isinstance(row[index], str) for row in rows)
        for index in range(len(header))
    ]


def _texts(rows: Sequence[Sequence[Any]], digits: int) -> list[list[str]]:
    def text(cell: Any) -> str:
        if cell is None or cell != cell:  # NaN
            return '–'
        if isinstance(cell, float | np.floating):
            return f'{cell:.{digits}f}'
        return str(cell)

    return [[text(cell) for cell in row] for row in rows]
