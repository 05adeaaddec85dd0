import numpy as np
import pytest

from mmfgl.datasets import GridRegions, RandomRegions, RegionProposer
from mmfgl.registry import TASK_UTILS

# (height, width): usual, portrait, tiny, one pixel wide or high, one pixel
SIZES = [(120, 160), (161, 99), (8, 8), (50, 1), (1, 50), (1, 1)]
PROPOSERS = [
    dict(type='mmfgl.GridRegions', cell_sizes=(8, 24, 64)),
    dict(type='mmfgl.GridRegions', cell_sizes=(7,), stride=0.3),
    dict(type='mmfgl.RandomRegions', num_regions=200),
    dict(type='mmfgl.RandomRegions', scale=(0.5, 3.0), ratio=(0.1, 9.0)),
]


def propose(config, size, seed=None):
    rng = None if seed is None else np.random.default_rng(seed)
    proposer = TASK_UTILS.build(config)
    assert isinstance(proposer, RegionProposer)
    return proposer.propose(dict(img_shape=size), rng)


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('config', PROPOSERS)
@pytest.mark.parametrize('seed', [None, 0])
def test_boxes_lie_inside_the_image(config, size, seed):
    boxes = propose(config, size, seed)
    assert boxes.dtype == np.float32
    assert boxes.ndim == 2
    assert boxes.shape[1] == 4
    assert len(boxes) > 0
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [size[1], size[0]]).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize('config', PROPOSERS)
def test_same_seed_same_boxes(config):
    size = SIZES[0]
    one, same, other = (propose(config, size, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize('config', PROPOSERS)
def test_without_a_generator_every_call_is_the_same(config):
    proposer = TASK_UTILS.build(config)
    info = dict(img_shape=SIZES[0])
    first = proposer.propose(info)
    proposer.propose(info, np.random.default_rng(0))
    assert np.array_equal(proposer.propose(info), first)


def test_proposers_leave_the_global_generator_alone():
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    for config in PROPOSERS:
        propose(config, SIZES[0])
        propose(config, SIZES[0], seed=1)
    assert np.random.rand() == expected


@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('stride', [0.3, 0.5, 1.0])
@pytest.mark.parametrize('cell', [1, 7, 24, 500])
def test_each_scale_of_the_grid_covers_the_image(size, stride, cell):
    boxes = propose(
        dict(type=GridRegions, cell_sizes=(cell,), stride=stride), size
    )
    side = min(cell, *size)
    assert (boxes[:, 2:] - boxes[:, :2] == side).all()
    seen = np.zeros(size, dtype=int)
    for x1, y1, x2, y2 in boxes.astype(int):
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1
    assert len(np.unique(boxes, axis=0)) == len(boxes)


def test_grid_of_full_cells_is_a_partition():
    boxes = propose(
        dict(type=GridRegions, cell_sizes=(20,), stride=1), (60, 80)
    )
    assert len(boxes) == 12
    seen = np.zeros((60, 80), dtype=int)
    for x1, y1, x2, y2 in boxes.astype(int):
        seen[y1:y2, x1:x2] += 1
    assert (seen == 1).all()


def test_cell_larger_than_the_image_becomes_its_shorter_side():
    config = dict(type=GridRegions, cell_sizes=(112, 224, 448))
    boxes = propose(config, (100, 130))
    # the three sizes are one: no duplicates
    expected = [[0, 0, 100, 100], [30, 0, 130, 100]]
    assert boxes.tolist() == expected


def test_grid_is_shuffled_only_by_a_generator():
    config = dict(type=GridRegions, cell_sizes=(16, 32))
    plain, mixed = propose(config, (96, 128)), propose(config, (96, 128), 0)
    assert not np.array_equal(plain, mixed)
    order = np.lexsort(plain.T), np.lexsort(mixed.T)
    assert np.array_equal(plain[order[0]], mixed[order[1]])


def test_random_boxes_keep_scale_and_ratio():
    config = dict(
        type=RandomRegions,
        num_regions=4000,
        scale=(0.1, 0.6),
        ratio=(0.5, 2.0),
    )
    boxes = propose(config, (300, 400), 0).astype(np.float64)
    assert len(boxes) == 4000
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    scale = np.sqrt(width * height) / 300
    assert scale.min() >= 0.1 - 1e-4
    assert scale.max() <= 0.6 + 1e-4
    ratio = width / height
    assert ratio.min() >= 0.5 - 1e-3
    assert ratio.max() <= 2 + 1e-3
    # log-uniform: half of the boxes lie below the geometric mean
    assert np.mean(scale < np.sqrt(0.1 * 0.6)) == pytest.approx(0.5, abs=0.05)
    assert np.mean(ratio < 1) == pytest.approx(0.5, abs=0.05)


def test_random_boxes_reach_all_parts_of_the_image():
    boxes = propose(dict(type=RandomRegions, num_regions=500), (120, 160), 0)
    seen = np.zeros((120, 160), dtype=bool)
    for x1, y1, x2, y2 in boxes.round().astype(int):
        seen[y1:y2, x1:x2] = True
    assert seen.mean() > 0.95
    assert seen[:5].any()
    assert seen[-5:].any()
    assert seen[:, :5].any()
    assert seen[:, -5:].any()


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (dict(type=GridRegions, cell_sizes=()), 'cell_sizes'),
        (dict(type=GridRegions, cell_sizes=(0, 4)), 'cell_sizes'),
        (dict(type=GridRegions, stride=0), 'stride'),
        (dict(type=GridRegions, stride=1.5), 'stride'),
        (dict(type=RandomRegions, num_regions=0), 'num_regions'),
        (dict(type=RandomRegions, scale=(0.5, 0.1)), 'scale'),
        (dict(type=RandomRegions, scale=(0.0, 0.1)), 'scale'),
        (dict(type=RandomRegions, ratio=(2.0, 0.5)), 'ratio'),
    ],
)
def test_settings_out_of_range(config, message):
    with pytest.raises(ValueError, match=message):
        TASK_UTILS.build(config)


def test_interface_cannot_be_built():
    with pytest.raises(TypeError, match='abstract'):
        RegionProposer()
