import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmfgl.reports import (
    Report,
    machine_settings,
    markdown_table,
    read_curve,
    read_metrics,
)
from mmfgl.reports.pictures import detection_pictures, side_by_side
from mmfgl.testing import tiny_coco
from mmfgl.utils.launch import replace_data_root


@pytest.fixture
def written(tmp_path):
    picture = np.zeros((6, 8, 3), dtype=np.uint8)
    picture[:, 4:] = (255, 0, 0)
    report = Report('A & <b>', 'Intro.')
    report.add_table(
        'Results',
        [{'arm': 'x|y', 'AP': 31.26, 'n': 3}, {'arm': '<z>', 'AP': None}],
        'Caption.',
    )
    report.add_curves('Loss', {'one': [(1, 2.0), (2, 1.0)], 'none': []})
    report.add_pictures('Pictures', [('red [right]', picture)])
    report.add_code('Commands', 'a < b\nc')
    page = report.write(tmp_path / 'out')
    return page, page.read_text(), page.with_suffix('.md').read_text()


def test_html_is_self_contained_and_escaped(written):
    page, text, _ = written
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2
    for source in sources:  # the base64 of a PNG file
        assert source.startswith('data:image/png;base64,iVBORw0KGgo')
    assert 'href' not in text
    assert '<h1>A &amp; &lt;b&gt;</h1>' in text
    assert '<td class="text">&lt;z&gt;</td><td>–</td><td>–</td>' in text
    assert '<pre>a &lt; b\nc</pre>' in text


def test_markdown(written):
    page, html, text = written
    assert '| arm | AP | n |\n| :-- | --: | --: |' in text
    assert '| x\\|y | 31.3 | 3 |\n| &lt;z> | – | – |' in text
    assert '```\na < b\nc\n```' in text
    # images exist beside it
    links = re.findall(r'!\[[^\]]*\]\(([^)]*)\)', text)
    assert len(links) == 2
    curves, picture = (Image.open(page.parent / link) for link in links)
    assert curves.width > 100
    assert picture.size == (8, 6)
    assert picture.getpixel((7, 0)) == (255, 0, 0)
    # sections in the order in which they were added
    names = ['Results', 'Loss', 'Pictures', 'Commands']
    assert re.findall(r'^## (.*)$', text, re.M) == names
    assert re.findall(r'<h2>(.*)</h2>', html) == names


def test_markdown_table():
    table = markdown_table(
        ['a', 'b'], [[1, 'x'], [float('nan'), np.float32(0.125)]], digits=2
    )
    assert table == '| a | b |\n| --: | :-- |\n| 1 | x |\n| – | 0.12 |'


def test_curve_of_a_resumed_run(tmp_path):
    first = [{'step': s, 'loss': 10.0 - s} for s in (1, 2, 3)]
    second = [{'step': s, 'loss': 1.0} for s in (3, 4)]
    second.append({'step': 4, 'coco/bbox_mAP': 0.5})
    for day, records in enumerate((first, second)):
        path = tmp_path / f'2025010{day}_000000/vis_data/scalars.json'
        path.parent.mkdir(parents=True)
        path.write_text('\n'.join(map(json.dumps, records)))
    expected = [(1, 9.0), (2, 8.0), (3, 1.0), (4, 1.0)]
    assert read_curve(tmp_path) == expected
    assert read_curve(tmp_path, 'coco/bbox_mAP') == [(4, 0.5)]
    with pytest.raises(FileNotFoundError, match='nothing was trained'):
        read_curve(tmp_path / 'none')


def test_metrics_of_the_latest_finished_test(tmp_path):
    for name, value in (('20250101_000000', 0.1), ('20250102_000000', 0.2)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / f'{name}.json'
        path.write_text(json.dumps({'coco/bbox_mAP': value}))
    (tmp_path / '20250103_000000').mkdir()
    (tmp_path / '20250103_000000' / 'other.json').write_text('{}')
    assert read_metrics(tmp_path) == {'coco/bbox_mAP': 0.2}
    with pytest.raises(FileNotFoundError, match='No finished test run'):
        read_metrics(tmp_path / 'none')


def test_settings_name_no_path():
    settings = machine_settings()
    assert int(settings['cores']) >= 1
    assert settings['mmdet'][0].isdigit()
    assert not any('/' in value for value in settings.values())


def test_detection_pictures(tmp_path):
    path = Path(__file__).parents[1] / 'test_tools' / 'tiny_detector.py'
    cfg = Config.fromfile(path)
    data = tiny_coco(tmp_path / 'data', num_images=1, num_unlabelled=1)
    replace_data_root(cfg, str(data))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
        meta = dict(dataset_meta=dict(classes=cfg.classes))
        checkpoint = str(tmp_path / 'model.pth')
        torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
        ((truth, found),) = detection_pictures(
            cfg, checkpoint, [1], score_thr=1.0, height=192
        )
    assert truth.shape == found.shape == (192, 256, 3)
    # nothing is found above a score of 1, so only the truth has boxes
    assert (truth != found).any()
    row = side_by_side([truth, found], gap=2)
    assert row.shape == (192, 514, 3) and (row[:, 256:258] == 255).all()
    assert np.array_equal(row[:, 258:], found)
