import pytest
import torch

from mmfgl.models.layers import pairwise_iou
from mmfgl.registry import TASK_UTILS

SHAPE = (100, 200)  # (height, width)


def selector(**options):
    """A selector with every filter off unless asked for."""
    options = dict(border_thr=None, min_kept=1) | options
    return TASK_UTILS.build(dict(type='mmfgl.CandidateSelector', **options))


def random_boxes(count, seed=0):
    generator = torch.manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 60
    sides = torch.rand(count, 2, generator=generator) * 40 + 4
    return torch.cat([corner, corner + sides], dim=1)


@pytest.mark.parametrize('mode', ['context', 'drop'])
@pytest.mark.parametrize('training', [False, True])
def test_filter_by_score(mode, training):
    scores = torch.tensor([0.05, 0.9, 0.3, 0.29, 0.5])
    chosen = selector(score_thr=0.3, mode=mode, num_targets=4)
    given = random_boxes(5), SHAPE, scores
    selection = chosen.select(*given, training=training)
    assert selection.context.tolist() == [False, True, True, False, True]
    # in training every candidate is a target
    targets = [1, 2, 4] if mode == 'drop' else [1, 2, 3, 4]
    targets = [0, 1, 2, 3, 4] if training else targets
    assert selection.targets.tolist() == targets


@pytest.mark.parametrize(('border_thr', 'right'), [(0.9, True), (0.5, False)])
def test_border_filter(border_thr, right):
    # inside; in the band on the left (4 px), a tenth in it; three quarters in
    # it on the right; in the band at the bottom (2 px)
    boxes = [[50.0, 30, 90, 60], [0, 20, 3, 60], [0, 20, 40, 60]]
    boxes += [[195, 20, 199, 60], [50, 99, 90, 100]]
    chosen = selector(border_thr=border_thr)
    context = chosen.select(torch.tensor(boxes), SHAPE).context
    assert context.tolist() == [True, False, True, right, False]


def consensus(boxes, scores):
    """Importance of each candidate: score x (1 + agreeing scores)."""
    iou = pairwise_iou(boxes, boxes).fill_diagonal_(0)
    return scores * (1 + torch.where(iou >= 0.5, iou, 0) @ scores)


@pytest.mark.parametrize('mode', ['context', 'drop'])
def test_targets_are_the_most_important(mode):
    boxes = random_boxes(40)
    scores = torch.rand(40, generator=torch.manual_seed(1))
    chosen = selector(score_thr=0.3, mode=mode, num_targets=7)
    targets = chosen.select(boxes, SHAPE, scores).targets
    pool = torch.arange(40)[(scores >= 0.3) | (mode == 'context')]
    value = consensus(boxes[pool], scores[pool])
    best = pool[value.argsort(descending=True)[:7]]
    assert torch.equal(targets, best.sort().values)
    assert value.argmax() != scores[pool].argmax()


def test_odd_boxes():
    # no area, inverted, outside, and one that is right
    boxes = [[50.0, 30, 50, 30], [90, 60, 50, 30], [1e6, 1e6, 2e6, 2e6]]
    boxes = torch.tensor([*boxes, [50, 30, 90, 60]])
    chosen = selector(border_thr=0.9, num_targets=2)
    selection = chosen.select(boxes, SHAPE, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert selection.context.all()
    assert selection.targets.tolist() == [2, 3]


@pytest.mark.parametrize(
    ('threshold', 'low', 'expected'),
    [
        # the mean of tokens 0 and 1: cosine 0.71 to both, 0 to the others
        (0.70, 0.09, [False, False, True, True]),
        (0.72, 0.09, [True, True, True, True]),
        (-1.0, 0.5, [True, True, True, True]),  # nothing is background
    ],
)
@pytest.mark.parametrize('dtype', [torch.float, torch.bfloat16], ids=str)
def test_prototype_is_the_mean_of_low_scores(threshold, low, expected, dtype):
    tokens = torch.eye(4)[[0, 1, 2, 2]]
    tokens[3] *= 5  # cosine: the length of a token is no matter
    scores = torch.tensor([low, low, 0.1, 0.5])
    select = selector(similarity_thr=threshold).select
    selection = select(random_boxes(4), SHAPE, scores, tokens.to(dtype))
    assert selection.context.tolist() == expected
    # a token that looks like background goes whatever its score
    tokens[3] = tokens[0]
    selection = select(random_boxes(4), SHAPE, scores, tokens.to(dtype))
    assert selection.context[3] == expected[0]


@pytest.mark.parametrize('min_kept', [1, 3, 5, 99])
@pytest.mark.parametrize(
    ('border_thr', 'order', 'passed'),
    [(None, [3, 1, 4, 2, 0], 2), (0.9, [1, 3, 4, 2, 0], 1)],
)
def test_floor_is_the_highest_scores(min_kept, border_thr, order, passed):
    scores = torch.tensor([0.1, 0.4, 0.2, 0.9, 0.3])
    boxes = random_boxes(5)
    boxes[3] = torch.tensor([0.0, 20, 3, 60])  # on the border
    options = dict(score_thr=0.4, min_kept=min_kept, border_thr=border_thr)
    context = selector(**options).select(boxes, SHAPE, scores).context
    kept = order[: max(passed, min_kept)]
    assert context.nonzero().flatten().tolist() == sorted(kept)


@pytest.mark.parametrize('count', [0, 1, 4])
@pytest.mark.parametrize('mode', ['context', 'drop'])
@pytest.mark.parametrize('training', [True, False])
def test_all_filtered_keeps_the_floor(count, mode, training):
    # background by score and by token, and on the border
    filters = dict(score_thr=0.9, similarity_thr=0.5, border_thr=0.9)
    boxes = torch.tensor([[0.0, 20, 3, 60]]).repeat(count, 1)
    given = boxes, SHAPE, torch.zeros(count), torch.ones(count, 8)
    selection = selector(mode=mode, **filters).select(*given, training)
    assert selection.context.dtype == torch.bool
    assert selection.context.sum() == min(count, 1)
    assert selection.targets.dtype == torch.long
    dropped = mode == 'drop' and not training
    assert len(selection.targets) == (min(count, 1) if dropped else count)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='keep'), 'mode'),
        (dict(num_targets=0), 'num_targets must be >= 1'),
        (dict(min_kept=0), 'min_kept'),
        (dict(similarity_thr=0.5), 'none were given'),  # tokens
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        selector(**options).select(random_boxes(2), SHAPE)
