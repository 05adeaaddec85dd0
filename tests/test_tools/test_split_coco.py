import hashlib
import json
import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from pycocotools.coco import COCO

from tools.dataset_converters import split_coco as tool


def make_content(num_images=450, num_classes=6, seed=0):
    """Classes from common to rare; every tenth image is empty."""
    rng = random.Random(seed)
    images, annotations = [], []
    for index in range(num_images):
        image = 7 * index + 3
        size = dict(width=64, height=48)
        images.append(dict(size, id=image, file_name=f'{index}.jpg'))
        if index % 10 == 0:
            continue
        for _ in range(rng.randint(1, 6)):
            label = min(int(rng.expovariate(0.9)), num_classes - 1)
            crowd = int(rng.random() < 0.02)
            ann = dict(bbox=[1, 2, 3.5, 4], area=14.0, iscrowd=crowd)
            ann.update(image_id=image, category_id=2 * label + 1)
            annotations.append(dict(ann, id=len(annotations) + 1))
    names = {2 * i + 1: f'class {i}é' for i in range(num_classes + 1)}
    categories = [dict(id=key, name=name) for key, name in names.items()]
    content = dict(info=dict(description='made up'), categories=categories)
    return dict(content, images=images, annotations=annotations)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / 'train.json'
    path.write_text(json.dumps(make_content()), encoding='utf-8')
    return path


def read(path):
    return json.loads(path.read_text())


PUBLISHED = [
    [30, 31, 34, 40, 54, 63, 66, 69, 82],
    [16, 28, 33, 43, 44, 59, 63, 65, 79],
]


def objects(content):
    """Number of objects of each category."""
    anns = content['annotations']
    return Counter(a['category_id'] for a in anns if not a['iscrowd'])


def check_balance(part, whole, share):
    """Each category's objects: one off, or 3 % off, at most."""
    seen, counts = objects(part), objects(whole)
    assert min(counts.values()) < 10 and max(counts.values()) > 500
    for label, count in counts.items():
        expected = pytest.approx(share * count, abs=max(1, 0.03 * count))
        assert seen[label] == expected, label


def ids(content):
    return [image['id'] for image in content['images']]


def test_train_val(source, capsys):
    tool.main([str(source), '--train-val', '8:1'])
    files = [
        source.with_name(f'train.8to1-{p}.json') for p in ('train', 'val')
    ]
    whole, train, val = map(read, (source, *files))
    assert [len(ids(train)), len(ids(val))] == [400, 50]
    assert not set(ids(train)) & set(ids(val))
    assert set(ids(train)) | set(ids(val)) == set(ids(whole))
    merged = train['annotations'] + val['annotations']
    assert sorted(merged, key=lambda a: a['id']) == whole['annotations']
    for part in (train, val):
        assert part['categories'] == whole['categories']
        assert part['info'] == whole['info']
        images = set(ids(part))
        assert all(a['image_id'] in images for a in part['annotations'])
        assert ids(part) == [i for i in ids(whole) if i in images]
    check_balance(val, whole, 1 / 9)
    empty = set(ids(val)) - {a['image_id'] for a in val['annotations']}
    assert len(empty) == 5
    COCO(str(files[0]))
    out = capsys.readouterr().out
    for path in files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() in out
    assert '50 images' in out and '6 of 7 categories' in out


def test_low_label_splits(source, tmp_path):
    out = tmp_path / 'splits'
    arguments = ['--percent', '2', '10', '--images', '7', '--out', str(out)]
    tool.main([str(source), *arguments, '--unlabelled'])
    sizes = {'2': 9, '10': 45, '7images': 7}
    assert {path.name for path in out.iterdir()} == {
        f'train.{fold}@{tag}{rest}.json'
        for tag in sizes
        for fold in range(1, 6)
        for rest in ('', '-unlabeled')
    }
    whole = read(source)
    for tag, size in sizes.items():
        parts = [read(out / f'train.{f}@{tag}.json') for f in range(1, 6)]
        assert {len(ids(part)) for part in parts} == {size}
        rest = read(out / f'train.5@{tag}-unlabeled.json')
        assert sorted(ids(rest) + ids(parts[-1])) == sorted(ids(whole))
        assert len({frozenset(ids(part)) for part in parts}) == 5
        for part in parts:
            assert part['categories'] == whole['categories']
            if tag == '10':
                check_balance(part, whole, 0.1)


def test_the_published_bytes():
    # a change of these splits would make results incomparable
    counts = {
        i: Counter({(i * i + 3 * j) % 7: 1 + i % 3 for j in range(i % 4)})
        for i in range(90)
    }
    picks = [sorted(tool.stratify(counts, [9, 81], f)[0]) for f in (1, 2)]
    assert picks == PUBLISHED


def test_same_bytes_under_another_hash_seed(source, tmp_path):
    names = {}
    for seed in ('1', '2'):
        out = tmp_path / seed
        command = [sys.executable, tool.__file__, str(source), '--out', out]
        command += ['--train-val', '8:1', '--percent', '5']
        # the other variables lead to mmfgl where it is not installed
        env = os.environ | {'PYTHONHASHSEED': seed}
        subprocess.run(command, check=True, env=env, capture_output=True)
        names[seed] = {p.name: p.read_bytes() for p in out.iterdir()}
    assert len(names['1']) == 7
    assert names['1'] == names['2']


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([], 'nothing to do'),
        (['--images', '450'], 'fewer than all'),
        (['--percent', '100'], 'fewer than all'),
        (['--images', '0'], 'at least 1'),
        (['--percent', '0.1'], '0.1 % of the 450 images .* are 0 images'),
    ],
)
def test_errors(source, arguments, message):
    before = set(source.parent.iterdir())
    with pytest.raises(SystemExit, match=message):
        tool.main([str(source), *arguments])
    assert set(source.parent.iterdir()) == before


def test_wrong_ratios_and_files(tmp_path, capsys):
    path = tmp_path / 'x.json'
    for ratio in ('8', '0:1'):
        with pytest.raises(SystemExit):
            tool.main([str(path), '--train-val', ratio])
        assert f"invalid ratio value: '{ratio}'" in capsys.readouterr().err

    def run(text, message):
        path.write_text(text)
        with pytest.raises(SystemExit, match=message):
            tool.main([str(path), '--train-val', '8:1'])

    with pytest.raises(SystemExit, match='x.json'):
        tool.main([str(path), '--train-val', '8:1'])
    run('{', 'not JSON')
    run('[]', "no 'images'")
    content = make_content(20)
    content['images'].append(content['images'][0])
    run(json.dumps(content), '2 images with id 3')
    content = make_content(20)
    content['annotations'][0]['category_id'] = 99
    run(json.dumps(content), 'category_id 99')
