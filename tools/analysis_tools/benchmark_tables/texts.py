"""Fills the tables of READMEs, docs and metafiles, and finds stray numbers.

In Markdown a table stands between two comments::

    <!-- table: transfer data=aquarium -->
    ...
    <!-- end -->

After the name, ``SETTING=VALUE`` leaves out runs of other settings. In a
metafile the ``Results`` of every model are filled.
"""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmark_tables.comparing import compare
from benchmark_tables.kept import ROOT, Kept
from benchmark_tables.tables import render

TEXTS = ('*.md', 'docs/**/*.md', 'configs/**/*.md')
# Docstrings are shown in the API reference, headers of configs on GitHub.
CODE = ('mmfgl/**/*.py', 'configs/**/*.py', 'tools/**/*.py')
METAFILES = ('configs/*/metafile.yml',)
_START = re.compile(r'^<!-- table: ([\w-]+)((?: [\w-]+=[\w.-]+)*) -->$')
_END = '<!-- end -->'
# What only a run can tell, in English or Chinese.
_NUMBERS = (
    r'\d ± \d',
    r'\d\.\d+ (?:box )?AP',
    r'\bAP(?:50|75|s|m|l)? ?(?:of|is|为|=)? ?\d+\.\d',
    # a row of a table with two bare decimals
    r'^\|(?:.*\| *\**\d+\.\d+\** *(?=\|)){2}',
    # in how many cases, and by how much, two things agree
    r'\d+ (?:out )?of (?:the )?\d+ (?:detection|object|image|photograph)s',
    r'\d+ (?:detections|boxes) (?:match|agree|differ)',
    r'differs? by .*\d',
    r'\d 个(?:检测|目标|框)[^，。]{0,4}(?:匹配|一致)',
    r'相差[^，。]{0,6}\d',
    # how fast, and how much faster or better
    r'\d images ?(?:/|a|per) ?s',
    r'每秒 ?\d',
    r'\d ?(?:times|x|%) (?:as )?(?:fast|slow|more|less|better|worse)',
    r'[快慢高低多少][^，。]{0,3}\d[\d.]* ?(?:倍|%|个点)',
)
_NUMBER = re.compile('|'.join(_NUMBERS))
_MODEL = re.compile(r'^  - Name: (\S+)')
_RESULTS = re.compile(r'^    Results:')
# ARM_DETECTOR_BACKBONE-fpn_1xbN of configs/transfer/
_ARM = re.compile(
    r'(?P<arm>[\w-]+?)_(?P<fgl>fgl-)?faster-rcnn_'
    r'(?P<backbone>r18-half|efficientnet-lite0)-fpn_1xb\d+'
)
_INIT = {'r18-half': 'random', 'efficientnet-lite0': 'imagenet'}


def files(root: Path = ROOT) -> list[Path]:
    """All texts and metafiles of the clone that hold results."""
    return [
        path
        for pattern in (*TEXTS, *METAFILES)
        for path in sorted(root.glob(pattern))
    ]


def stray_numbers(root: Path = ROOT) -> list[str]:
    """One line for each measured number in code: there are no tables."""
    return [
        f'{path}:{number}: {_stray(line)}'
        for pattern in CODE
        for path in sorted(root.glob(pattern))
        for number, line in enumerate(
            path.read_text(encoding='utf-8').split('\n'), 1
        )
        if _NUMBER.search(line)
    ]


def _stray(line: str) -> str:
    return (
        f'a number without its file: {line!r}. Keep the result (--add) and '
        'show it by <!-- table: NAME -->, or leave the number out'
    )


def fill(path: Path, kept: Sequence[Kept]) -> str:
    """The content of a file with its tables made anew.

    Raises:
        ValueError: A marker is broken, or a number stands outside of a
            table; names file and line.
    """
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.yml':
        return _fill_metafile(text, kept)
    return _fill_markdown(text, kept, path)


def _fill_markdown(text: str, kept: Sequence[Kept], path: Path) -> str:
    lines: list[str] = []
    start = 0  # line of the open marker
    for number, line in enumerate(text.splitlines(), 1):
        match = _START.match(line)
        if line.startswith('<!-- table:') and (match is None or start):
            raise ValueError(
                f'{path}:{number}: not <!-- table: NAME KEY=VALUE ... -->, or '
                f'the table before it has no {_END}: {line}'
            )
        if match:
            start = number
            only = dict(pair.split('=') for pair in match[2].split())
            try:
                made = render(match[1], kept, only)
            except ValueError as error:
                raise ValueError(f'{path}:{number}: {error}') from None
            lines += [line, '', made, '']
        elif line == _END:
            if not start:
                raise ValueError(f'{path}:{number}: {_END} without a table')
            start = 0
            lines.append(line)
        elif not start:
            if _NUMBER.search(line):
                raise ValueError(f'{path}:{number}: {_stray(line)}')
            lines.append(line)
    if start:
        raise ValueError(f'{path}:{start}: the table has no {_END}')
    return '\n'.join(lines) + '\n'


def _fill_metafile(text: str, kept: Sequence[Kept]) -> str:
    lines: list[str] = []
    model, inside = '', False
    for line in text.splitlines():
        match = _MODEL.match(line)
        model = match[1] if match else model
        if inside and line.startswith('     '):
            continue  # what Results held
        inside = bool(_RESULTS.match(line))
        if not inside:
            lines.append(line)
            continue
        rows = _results(model, kept)
        if rows:
            lines += ['    Results:', *rows]
        elif line.startswith('    Results: null'):
            lines.append(line)  # with its comment
        else:
            lines.append('    Results: null # not yet measured')
    return '\n'.join(lines) + '\n'


def _results(model: str, kept: Sequence[Kept]) -> list[str]:
    """Rows of a model: the detectors fine-tuned from this arm."""
    match = _ARM.fullmatch(model)
    if match is None:
        return []
    detector = 'fgl' if match['fgl'] else 'faster-rcnn'
    rows = []
    for group in compare(kept):
        arm = group.arms.get(match['arm'])
        fits = group.settings['init'] == _INIT[match['backbone']]
        if arm is None or not fits or group.detector != detector:
            continue
        names = ', '.join(dict.fromkeys(f'{f.name}.json' for f in arm.files))
        rows += [
            f'      # {names}',
            '      - Task: Object Detection',
            f'        Dataset: "{group.settings["data"]} ({group.equal}; '
            f'labels: {group.labels}; fine-tuning: '
            f'{group.settings["finetune_iters"]} iterations)"',
            '        Metrics:',
            f'          box AP: {statistics.mean(arm.of("AP")):.1f}',
        ]
        if 'none' in group.arms:
            mean = statistics.mean(group.arms['none'].of('AP'))
            rows.append(f'          box AP without pretraining: {mean:.1f}')
    return rows
