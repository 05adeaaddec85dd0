import re

import numpy as np
import pytest

from mmfgl.reports import Report, markdown_table
from mmfgl.reports.plots import svg_curves
from mmfgl.reports.tables import columns_of


@pytest.fixture
def written(tmp_path):
    picture = np.zeros((6, 8, 3), dtype=np.uint8)
    report = Report('A & <b>', 'Intro.')
    report.section('Results', 'Text.')
    rows = [{'arm': 'x|y', 'AP': 31.26, 'n': 3}, {'arm': '<z>', 'AP': None}]
    report.add_table(rows, 'Caption.')
    report.section('Loss')
    curves = {'$a$': [(1, 2.0), (2, 1.0)], '_none': []}
    report.add_plots([('of <i>', svg_curves(curves, 'iteration', 'loss'))])
    report.section('Pictures')
    rows = [('red [right]', [picture, picture])]
    report.add_pictures(['truth', '<u>'], rows, [('<s>', 'red')])
    report.add_confusion(np.array([[3, 0, 1], [2, 1, 1]]), ['<c>', 'd'], 'x')
    report.section('Commands')
    report.add_code('a < b\nc ```')
    report.add_code('secret', summary='folded')
    page = report.write(tmp_path / 'out')
    return page.read_text(), page.with_suffix('.md').read_text()


def test_html_is_self_contained_and_escaped(written):
    text, _ = written
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2
    for source in sources:  # the base64 of a JPEG file
        assert source.startswith('data:image/jpeg;base64,/9j/')
    assert re.findall(r'href="(?!#)([^"]*)"', text) == ['data:,']
    assert 'url(' not in re.sub(r'url\(#\w+\)', '', text)
    assert '<h1>A &amp; &lt;b&gt;</h1>' in text
    assert '>&lt;z&gt;</td>' in text
    assert 'a &lt; b\nc ```</pre>' in text
    for tag in ('<i>', '<u>', '<s>', '<c>', '<z>'):
        assert tag not in text
    assert '$a$' in text  # no formula
    assert 'currentColor' in text and '#0a0' not in text


def test_confusion_matrix(written):
    text, _ = written
    cells = re.findall(r'--share: ([\d.]+)%" title="([^"]*)"', text)
    assert cells[0] == ('75.0', '&lt;c&gt; → &lt;c&gt;: 3')
    assert cells[3] == ('50.0', 'd → &lt;c&gt;: 2')
    assert cells[5] == ('25.0', 'd → missed: 1')


def test_markdown(written):
    _, text = written
    assert '| arm | AP | n |\n| :-- | --: | --: |' in text
    assert '| x\\|y | 31.3 | 3 |\n| &lt;z> | – | – |' in text
    assert '````\na < b\nc ```\n````' in text
    assert 'secret' not in text
    assert '## Loss\n\nPlots and pictures are in report.html.' in text
    names = ['Results', 'Loss', 'Pictures', 'Commands']
    assert re.findall(r'^## (.*)$', text, re.M) == names


def test_markdown_table():
    table = markdown_table(
        ['a', 'b'], [[1, 'x'], [float('nan'), np.float32(0.125)]], digits=2
    )
    assert table == '| a | b |\n| --: | :-- |\n| 1 | x |\n| – | 0.12 |'


def test_best_of_a_column():
    rows = [dict(a=1.04, b=2), dict(a=1.0), dict(a=float('nan'), b=1)]
    first, second = columns_of(rows, dict(a=max, b=min), ['a'])
    # the same to the reader: both are best
    assert [cell.best for cell in first.cells] == [True, True, False]
    assert [cell.best for cell in second.cells] == [False, False, True]
    assert [cell.bar for cell in first.cells] == [1.04, 1.0, 0.0]
    assert first.cells[2].value == '' and first.cells[2].text == '–'
