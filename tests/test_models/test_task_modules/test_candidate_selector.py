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


def random_scores(count, seed=1):
    return torch.rand(count, generator=torch.manual_seed(seed))


def test_background_by_score():
    scores = torch.tensor([0.05, 0.9, 0.3, 0.29, 0.5])
    selection = selector(score_thr=0.3).select(random_boxes(5), SHAPE, scores)
    assert selection.context.tolist() == [False, True, True, False, True]
    assert selection.targets.tolist() == [0, 1, 2, 3, 4]


def test_background_by_similarity_of_the_tokens():
    background, thing = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0])
    tokens = torch.stack(
        [
            background,
            background * 5,  # cosine: length is no matter
            background + 0.1 * thing,  # looks like background, high score
            thing,
            thing + 0.5 * background,
            -background,
        ]
    )
    scores = torch.tensor([0.05, 0.01, 0.95, 0.9, 0.8, 0.7])
    chosen = selector(similarity_thr=0.9)
    selection = chosen.select(random_boxes(6), SHAPE, scores, tokens)
    assert selection.context.tolist() == [False] * 3 + [True] * 3
    # bf16 tokens of an autocast region do as well
    half = chosen.select(random_boxes(6), SHAPE, scores, tokens.bfloat16())
    assert torch.equal(half.context, selection.context)


def test_border_filter():
    boxes = torch.tensor(
        [
            [50.0, 30.0, 90.0, 60.0],  # inside
            [0.0, 20.0, 3.0, 60.0],  # in the band on the left (4 px)
            [0.0, 20.0, 40.0, 60.0],  # a tenth in the band
            [195.0, 20.0, 199.0, 60.0],  # three quarters on the right
            [50.0, 99.0, 90.0, 100.0],  # in the band at the bottom (2 px)
        ]
    )
    chosen = selector(border_thr=0.9)
    context = chosen.select(boxes, SHAPE, torch.ones(5)).context
    assert context.tolist() == [True, False, True, True, False]
    chosen = selector(border_thr=0.5)
    context = chosen.select(boxes, SHAPE, torch.ones(5)).context
    assert context.tolist() == [True, False, True, False, False]


def test_modes_context_and_drop():
    scores = torch.tensor([0.9, 0.1, 0.8, 0.2])
    boxes = random_boxes(4)
    context = selector(score_thr=0.5).select(boxes, SHAPE, scores)
    drop = selector(score_thr=0.5, mode='drop').select(boxes, SHAPE, scores)
    assert torch.equal(context.context, drop.context)
    assert context.targets.tolist() == [0, 1, 2, 3]
    assert drop.targets.tolist() == [0, 2]


def consensus(boxes, scores):
    """Importance of each candidate, in plain Python."""
    iou = pairwise_iou(boxes, boxes).tolist()
    return [
        scores[i].item()
        * (
            1
            + sum(
                iou[i][j] * scores[j].item()
                for j in range(len(boxes))
                if j != i and iou[i][j] >= 0.5
            )
        )
        for i in range(len(boxes))
    ]


@pytest.mark.parametrize('mode', ['context', 'drop'])
def test_targets_are_the_most_important(mode):
    boxes, scores = random_boxes(40), random_scores(40)
    chosen = selector(score_thr=0.3, mode=mode, num_targets=7)
    targets = chosen.select(boxes, SHAPE, scores).targets
    pool = [i for i in range(40) if mode == 'context' or scores[i] >= 0.3]
    value = consensus(boxes[pool], scores[pool])
    best = sorted(zip(value, pool, strict=True), reverse=True)[:7]
    assert targets.tolist() == sorted(index for _, index in best)


def test_consensus_beats_a_lonely_score():
    boxes = torch.tensor(
        [
            [100.0, 10, 140, 50],  # alone, the highest score
            [10.0, 10, 50, 50],  # three that agree
            [11.0, 10, 51, 50],
            [10.0, 11, 50, 51],
        ]
    )
    scores = torch.tensor([0.8, 0.7, 0.7, 0.7])
    targets = selector(num_targets=1).select(boxes, SHAPE, scores).targets
    assert targets.item() in (1, 2, 3)
    scores[0] = 1
    # too far apart to agree
    boxes[1:] += torch.tensor([[0.0], [20], [40]])
    targets = selector(num_targets=1).select(boxes, SHAPE, scores).targets
    assert targets.item() == 0


def test_training_takes_every_candidate_as_target():
    chosen = selector(score_thr=0.5, mode='drop', num_targets=2)
    scores = random_scores(20)
    selection = chosen.select(random_boxes(20), SHAPE, scores, training=True)
    assert selection.targets.tolist() == list(range(20))
    assert torch.equal(selection.context, scores >= 0.5)


def test_odd_boxes():
    boxes = torch.tensor(
        [
            [50.0, 30, 50, 30],  # no area
            [90, 60, 50, 30],  # inverted
            [1e6, 1e6, 2e6, 2e6],  # outside
            [50, 30, 90, 60],
        ]
    )
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
def test_prototype_is_the_mean_of_low_scores_alone(threshold, low, expected):
    tokens = torch.eye(4)[[0, 1, 2, 2]]
    scores = torch.tensor([low, low, 0.1, 0.5])
    chosen = selector(similarity_thr=threshold)
    context = chosen.select(random_boxes(4), SHAPE, scores, tokens).context
    assert context.tolist() == expected


@pytest.mark.parametrize('min_kept', [1, 3, 5, 99])
def test_floor_gives_back_the_highest_scores(min_kept):
    scores = torch.tensor([0.1, 0.4, 0.2, 0.9, 0.3])
    boxes = random_boxes(5)
    boxes[3] = torch.tensor([0.0, 20, 3, 60])  # on the border
    for border_thr, order in ((None, [3, 1, 4, 2, 0]), (0.9, [1, 3, 4, 2, 0])):
        chosen = selector(
            score_thr=0.4, min_kept=min_kept, border_thr=border_thr
        )
        kept = chosen.select(boxes, SHAPE, scores).context.nonzero().flatten()
        passed = 2 if border_thr is None else 1
        assert kept.tolist() == sorted(order[: max(passed, min_kept)])


@pytest.mark.parametrize('count', [0, 1, 4])
@pytest.mark.parametrize('mode', ['context', 'drop'])
@pytest.mark.parametrize('training', [True, False])
def test_all_filtered_keeps_the_floor(count, mode, training):
    # background by score and by token, and on the border
    chosen = selector(
        score_thr=0.9, similarity_thr=0.5, border_thr=0.9, mode=mode
    )
    selection = chosen.select(
        torch.tensor([[0.0, 20, 3, 60]]).repeat(count, 1),
        SHAPE,
        torch.zeros(count),
        torch.ones(count, 8),
        training,
    )
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
