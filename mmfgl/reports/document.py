"""A report in two files: HTML with everything inside, and Markdown."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mmfgl.reports.tables import columns_of, markdown_table, markdown_text
from mmfgl.utils.atomic_files import write_atomically

_SEE = 'Plots and pictures are in report.html.'


class Report:
    """Collects sections of tables, plots, pictures and text; writes them.

    :meth:`section` begins a section, ``add_*`` methods fill the last one.
    Text is shown as it is, never read as HTML. ``intro`` is a paragraph below
    the title. Tables, text and commands are in ``report.md`` too.

    Example:
        >>> report = Report('Comparison')
        >>> report.section('Results')
        >>> report.add_table([{'arm': 'a', 'AP': 31.25}])
        >>> report.write('work_dirs/comparison')
    """

    def __init__(self, title: str, intro: str = '') -> None:
        self.title = title
        self.intro = intro
        self.sections: list[dict] = []

    def section(self, heading: str, text: str = '') -> None:
        """Begin a section, with a paragraph below its heading."""
        self.sections.append(dict(heading=heading, blocks=[]))
        if text:
            self.add_text(text)

    def add_text(self, text: str) -> None:
        """Add a paragraph."""
        self._add('text', text=text)

    def add_code(self, code: str, summary: str = '') -> None:
        """Add commands or a config, folded below ``summary`` if it is given.

        What is folded is in the page alone.
        """
        self._add('code', code=code, summary=summary)

    def add_table(
        self,
        rows: Sequence[Mapping[str, Any]],
        caption: str = '',
        best: Mapping[str, Any] | None = None,
        bars: Sequence[str] = (),
    ) -> None:
        """Add a table that a click on a column sorts.

        Arguments are those of :func:`.columns_of`.
        """
        columns = columns_of(rows, best or {}, bars)
        self._add('table', rows=rows, columns=columns, caption=caption)

    def add_plots(self, plots: Iterable[tuple[str, str]]) -> None:
        """Add (caption, SVG of :mod:`mmfgl.reports.plots`) side by side."""
        plots = [(caption, Markup(svg)) for caption, svg in plots]  # noqa: S704
        self._add('plots', plots=plots)

    def add_confusion(
        self,
        counts: np.ndarray,
        classes: Sequence[str],
        summary: str,
        unfolded: bool = False,
    ) -> None:
        """Add a (C, C + 1) confusion matrix, folded below ``summary``.

        The last column counts missed objects. It can be folded and
        ``unfolded`` by a click.
        """
        totals = counts.sum(axis=1)
        shares = counts / np.maximum(totals, 1)[:, None]
        self._add(
            'confusion',
            classes=list(classes),
            totals=totals.tolist(),
            counts=counts.tolist(),
            percents=np.round(100 * shares, 1).tolist(),
            summary=summary,
            unfolded=unfolded,
        )

    def add_pictures(
        self,
        titles: Sequence[str],
        rows: Iterable[tuple[str, Sequence[np.ndarray]]],
        legend: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Add rows of pictures that a click enlarges.

        Args:
            titles: Titles of the columns.
            rows: (caption, one (H, W, 3) uint8 RGB array a column).
            legend: (name, CSS colour) pairs.
        """
        rows = [
            (caption, [_jpeg_url(picture) for picture in pictures])
            for caption, pictures in rows
        ]
        self._add('pictures', titles=titles, rows=rows, legend=legend)

    def write(self, folder: str | Path) -> Path:
        """Write ``report.html`` and ``report.md``; return the former's path.

        The folder is made if it is missing. The page needs no other file.
        """
        environment = Environment(
            loader=PackageLoader('mmfgl.reports'),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = environment.get_template('report.html').render(
            title=self.title, intro=self.intro, sections=self.sections
        )
        path = Path(folder) / 'report.html'
        write_atomically(page.encode(errors='replace'), path)
        text = self.markdown().encode(errors='replace')
        write_atomically(text, path.with_suffix('.md'))
        return path

    def markdown(self) -> str:
        """The content of ``report.md``."""
        parts = [f'# {markdown_text(self.title)}']
        parts += [markdown_text(self.intro)] if self.intro else []
        for section in self.sections:
            part = [_markdown(block) for block in section['blocks']]
            part = list(filter(None, part)) or [_SEE]
            parts += [f'## {markdown_text(section["heading"])}', *part]
        return '\n\n'.join(parts) + '\n'

    def _add(self, kind: str, **values: Any) -> None:
        self.sections[-1]['blocks'].append(dict(kind=kind, **values))


def _markdown(block: Mapping[str, Any]) -> str:
    """A block as Markdown; '' for what the page alone shows."""
    if block['kind'] == 'text':
        return markdown_text(block['text'])
    if block['kind'] == 'code' and not block['summary']:
        longest = max(map(len, re.findall('`+', block['code'])), default=0)
        fence = '`' * max(3, longest + 1)
        return f'{fence}\n{block["code"]}\n{fence}'
    if block['kind'] == 'table':
        header = [column.name for column in block['columns']]
        rows = [[row.get(name) for name in header] for row in block['rows']]
        table = markdown_table(header, rows)
        return f'{table}\n\n{markdown_text(block["caption"])}'.strip()
    return ''


def _jpeg_url(picture: np.ndarray) -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format='JPEG', quality=82)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'data:image/jpeg;base64,{data}'
