"""tools/analysis_tools/audit_coco.py on a tiny set."""

import json
import shutil

import pytest
from PIL import Image

from tests.coco_sets import SIZE, write_coco, write_coco_set
from tools.analysis_tools import audit_coco as tool


@pytest.fixture
def root(tmp_path):
    write_coco_set(tmp_path)
    return tmp_path


def test_tool(root, capsys):
    def run(*more):
        pairs = [str(root / 'train.json'), str(root / 'train')]
        with pytest.raises(SystemExit) as end:
            tool.main([*pairs, *map(str, more)])
        return end.value.code, capsys.readouterr().out

    assert run() == (
        0,
        f'\n{root}/train.json: 3 of 3 objects in 2 images are used\n',
    )
    pair = (root / 'val.json', root / 'val')
    assert run(*pair)[0] == 0
    shutil.copy(root / 'train/train2.png', root / 'val/val1.png')
    code, output = run(*pair)
    assert code == 1 and 'one image in two sets' in output
    Image.new('RGB', SIZE).save(root / 'train' / 'more.jpg')

    def change(content):
        content['annotations'][0]['bbox'] = [50, 20, 40, 20]
        del content['annotations'][1]['area']

    write_coco(root, 'train', change)
    code, output = run('--out', root / 'out')
    assert code == 1
    for text in ('more.jpg', 'repair   annotations without area', 'leave'):
        assert text in output
    (picture,) = (root / 'out').rglob('*.png')
    assert Image.open(picture).getpixel((160 + 500, 160 + 300)) == (
        220,
        30,
        30,
    )
    for folder in ('a', 'b'):
        shutil.copytree(root / 'train', root / folder)
        shutil.copy(root / 'train.json', root / folder / '_ann.json')
    pairs = [str(root / f) for f in ('a/_ann.json', 'a', 'b/_ann.json', 'b')]
    with pytest.raises(SystemExit):
        tool.main([*pairs, '--out', str(root / 'two')])
    folders = {path.parent.name for path in (root / 'two').rglob('*.png')}
    assert folders == {'1_a__ann', '2_b__ann'}
    (mended,) = (root / 'out').glob('train.*.json')
    assert json.loads(mended.read_text())['annotations'][1]['area'] == 120
    (root / 'train.json').unlink()
    assert 'does not exist' in run()[0]
    assert run('--classes', 'cat')[0] != 0
