import random
from collections import Counter

import pytest

from mmfgl.utils.formats import Dataset, Split, split_dataset
from mmfgl.utils.formats.split import objects_of
from tests.coco_sets import annotation

NAMES = ('common', 'rare', 'twice', 'once', 'never')


def make_dataset(names, labels, **splits) -> Dataset:
    """A data set of images, and a list of category ids each."""
    images = [
        dict(id=i, file_name=name, width=64, height=48)
        for i, name in enumerate(names, 1)
    ]
    pairs = [(i, c) for i, row in enumerate(labels, 1) for c in row]
    anns = [
        annotation(number, image, (1, 2, 3, 4), category)
        for number, (image, category) in enumerate(pairs, 1)
    ]
    categories = [dict(id=i, name=name) for i, name in enumerate(NAMES, 1)]
    content = dict(images=images, annotations=anns, categories=categories)
    splits = dict(train=Split(content, '/photos')) | splits
    return Dataset(splits, '/photos', 'made up')


def many() -> Dataset:
    rng = random.Random(0)
    labels = [
        [1] * rng.randint(0, 3) + [2] * (i % 20 == 0) for i in range(200)
    ]
    for image, category in ((7, 3), (8, 3), (9, 4)):
        labels[image].append(category)
    return make_dataset([f'{i}.jpg' for i in range(200)], labels)


def seen(split: Split) -> Counter:
    return sum(objects_of(split.content).values(), Counter())


def test_copies_of_a_file_stay_together(tmp_path):
    names = [f'{number}.jpg' for number in range(12)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(bytes([number // 3]) * 9)
    dataset = make_dataset(names, [[1]] * 12)
    dataset.splits['train'].root = str(tmp_path)
    for seed in range(3):
        split = split_dataset(dataset, seed=seed)
        parts = [{(i - 1) // 3 for i in ids(s)} for s in split.splits.values()]
        assert not parts[0] & parts[1]
    assert '4 bursts or copies of one photograph' in split.notes[-1]


def test_objects_in_one_image_cannot_be_split():
    dataset = make_dataset([f'{i}.jpg' for i in range(5)], [[1]] + [[]] * 4)
    with pytest.raises(ValueError, match='only one image or burst shows an'):
        split_dataset(dataset)


def ids(split: Split) -> list[int]:
    return [image['id'] for image in split.content['images']]


@pytest.mark.parametrize('seed', range(5))
def test_every_class_in_both_where_possible(seed):
    dataset = many()
    split = split_dataset(dataset, seed=seed)
    train, val = split.splits['train'], split.splits['val']
    assert sorted(ids(train) + ids(val)) == ids(dataset.splits['train'])
    assert len(ids(val)) == pytest.approx(40, abs=1)
    whole = seen(dataset.splits['train'])
    assert seen(train) + seen(val) == whole
    assert seen(val)[1] == pytest.approx(whole[1] / 5, rel=0.15)
    assert seen(val)[2] == 2
    assert seen(train)[3] == seen(val)[3] == 1
    assert sorted([seen(train)[4], seen(val)[4]]) == [0, 1]
    for part in (train, val):
        assert (
            part.content['categories']
            == (dataset.splits['train'].content['categories'])
        )
        assert part.root == '/photos'


def test_deterministic_and_seeded():
    first, again, other = (split_dataset(many(), seed=s) for s in (0, 0, 1))
    assert first == again
    assert ids(first.splits['val']) != ids(other.splits['val'])
    assert first.notes == [
        'no val was given: split into '
        f'{len(ids(first.splits["train"]))} images to train on and '
        f'{len(ids(first.splits["val"]))} for val, classes in proportion, '
        'seed 0'
    ]


@pytest.mark.parametrize(
    'names, groups',
    [
        ([f'p{i}_jpg.rf.{j}ab{i}.jpg' for i in range(9) for j in range(3)], 9),
        (
            [
                f'IMG_20240131_1201{i:02}_{j}.jpg'
                for i in range(9)
                for j in '12'
            ],
            9,
        ),
        ([f'x/{i:06}.jpg' for i in range(12)], 12),
        ([f'IMG_20240131{i:02}.jpg' for i in range(12)], 12),
    ],
)
def test_bursts_stay_together(names, groups):
    dataset = make_dataset(names, [[1]] * len(names))
    split = split_dataset(dataset, val_share=1 / 3)
    train, val = (ids(split.splits[part]) for part in ('train', 'val'))
    size = len(names) // groups
    group = {i: (i - 1) // size for i in range(1, len(names) + 1)}
    assert not {group[i] for i in train} & {group[i] for i in val}
    assert len(val) == len(names) // 3
    assert ('kept together' in split.notes[0]) == (size > 1)


def test_a_given_val_stays():
    other = many().splits['train']
    dataset = make_dataset(['a.jpg', 'b.jpg'], [[1], [1]], val=other)
    assert split_dataset(dataset) is dataset
    dataset = make_dataset(['a.jpg', 'b.jpg'], [[1], [1]], test=other)
    split = split_dataset(dataset)
    assert list(split.splits) == ['train', 'val', 'test']
    assert [len(ids(s)) for s in split.splits.values()] == [1, 1, 200]
    assert list(dataset.splits) == ['train', 'test'] and not dataset.notes


def test_too_few():
    with pytest.raises(ValueError, match='1 images or bursts cannot be split'):
        split_dataset(make_dataset(['a.jpg'], [[1]]))
    with pytest.raises(ValueError, match='between 0 and 1'):
        split_dataset(many(), val_share=20)
