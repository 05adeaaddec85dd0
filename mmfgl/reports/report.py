"""A report in two files: HTML with everything inside, and Markdown."""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmfgl.utils.reports.plots import Curve, plot_curves
from mmfgl.utils.reports.tables import (
    html_table,
    markdown_table,
    markdown_text,
)

_IMAGES = 'report_files'
_CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; margin: 2rem auto;
       max-width: 62rem; padding: 0 1rem; }
h1 { border-bottom: 2px solid #2a6f97; padding-bottom: .3rem; }
h2 { margin-top: 2.2rem; color: #2a6f97; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd;
         text-align: right; }
th { background: #f1f5f8; }
th.text, td.text { text-align: left; }
figure { margin: 1rem 0; }
figcaption { color: #555; font-size: .9rem; }
img { max-width: 100%; border: 1px solid #ddd; border-radius: 4px; }
pre { background: #f1f5f8; padding: .8rem; overflow-x: auto; }
"""


class Report:
    """Collects tables, curves, pictures and settings, then writes them.

    Every ``add_*`` method appends one section. Text is shown as it is, never
    read as HTML. ``intro`` is a paragraph below the title.

    Example:
        >>> report = Report('Comparison')
        >>> report.add_table('Results', [{'arm': 'a', 'AP': 31.25}])
        >>> report.write('work_dirs/comparison')
    """

    def __init__(self, title: str, intro: str = '') -> None:
        self.title = title
        self._html = [f'<h1>{html.escape(title)}</h1>']
        self._markdown = [f'# {markdown_text(title)}']
        self._images: list[tuple[str, bytes]] = []
        self._text(intro)

    def add_code(self, heading: str, code: str) -> None:
        """Add commands or program output, with its line breaks."""
        self._heading(heading)
        self._html.append(f'<pre>{html.escape(code)}</pre>')
        longest = max(map(len, re.findall('`+', code)), default=0)
        fence = '`' * max(3, longest + 1)
        self._markdown.append(f'{fence}\n{code}\n{fence}')

    def add_table(
        self,
        heading: str,
        rows: Sequence[Mapping[str, Any]],
        caption: str = '',
    ) -> None:
        """Add a table, with a caption below.

        ``rows`` map names of columns to values, see :func:`markdown_table`.
        Columns are in order of first appearance; a missing value is shown as
        a dash.
        """
        self._heading(heading)
        header = list(dict.fromkeys(key for row in rows for key in row))
        cells = [[row.get(key) for key in header] for row in rows]
        self._markdown.append(markdown_table(header, cells))
        self._html.append(html_table(header, cells))
        self._text(caption)

    def add_curves(self, heading: str, curves: Mapping[str, Curve]) -> None:
        """Add one plot of losses; see :func:`plot_curves`."""
        self._heading(heading)
        self._figure(plot_curves(curves), 'loss over iterations')

    def add_pictures(
        self, heading: str, pictures: Iterable[tuple[str, np.ndarray]]
    ) -> None:
        """Add pictures, (caption, (H, W, 3) uint8 RGB array) pairs."""
        self._heading(heading)
        for caption, picture in pictures:
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, format='PNG', optimize=True)
            self._figure(buffer.getvalue(), caption)

    def write(self, folder: str | Path) -> Path:
        """Write ``report.html``, ``report.md`` and ``report_files/``.

        The folder is made if it is missing. Returns the path of the HTML
        file, which needs no other; the images are for the Markdown file.
        """
        folder = Path(folder)
        images = folder / _IMAGES
        images.mkdir(parents=True, exist_ok=True)
        for name, png in self._images:
            (images / name).write_bytes(png)
        markdown = '\n\n'.join(self._markdown) + '\n'
        (folder / 'report.md').write_text(markdown, encoding='utf-8')
        page = folder / 'report.html'
        page.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{html.escape(self.title)}</title>'
            f'<style>{_CSS}</style></head>\n<body>\n'
            + '\n'.join(self._html)
            + '\n</body></html>\n',
            encoding='utf-8',
        )
        return page

    def _heading(self, heading: str) -> None:
        self._html.append(f'<h2>{html.escape(heading)}</h2>')
        self._markdown.append(f'## {markdown_text(heading)}')

    def _text(self, text: str) -> None:
        if text:
            self._html.append(f'<p>{html.escape(text)}</p>')
            self._markdown.append(markdown_text(text))

    def _figure(self, png: bytes, caption: str) -> None:
        slug = re.sub(r'[^a-z0-9]+', '-', caption.lower()).strip('-')[:40]
        name = f'{len(self._images):02d}_{slug}.png'
        self._images.append((name, png))
        data = base64.b64encode(png).decode()
        text = html.escape(caption)
        self._html.append(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f'<figcaption>{text}</figcaption></figure>'
        )
        alt = markdown_text(caption.replace('[', '(').replace(']', ')'))
        self._markdown.append(f'![{alt}]({_IMAGES}/{name})\n\n*{alt}*')
