import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from mmfgl.models.losses import PatchSimilarityLoss, QueueSimilarityLoss

WIDTH = 6


def tokens(*shape, seed=0):
    return torch.randn(*shape, WIDTH, generator=torch.manual_seed(seed))


def plain_kl(student, teacher, anchors, temperature):
    """Mean divergence, one token and one anchor after the other."""
    total = 0.0
    for own, target in zip(student, teacher, strict=True):
        chosen = []
        for token in (own, target):
            logits = [
                float(cosine_similarity(token, anchor, dim=0)) / temperature
                for anchor in anchors
            ]
            norm = sum(map(math.exp, logits))
            chosen.append([math.exp(value) / norm for value in logits])
        q, p = chosen
        total += sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
    return total / len(student)


def test_queue_loss_equals_a_plain_computation():
    loss = QueueSimilarityLoss(WIDTH, queue_len=8, temperature=0.2)
    first, second, student = (tokens(3, seed=seed) for seed in range(3))
    loss(student, first)
    value = loss(student, second)
    # of the filled places alone, the batch itself among them
    anchors = torch.cat([first, second])
    expected = plain_kl(student, second, anchors, 0.2)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    assert loss.count == 6 and (loss.queue[6:] == 0).all()


def test_queue_keeps_the_latest():
    loss = QueueSimilarityLoss(WIDTH, queue_len=4)
    batches = [tokens(3, seed=seed) for seed in range(3)]
    for batch in batches:
        loss(batch, batch)
    kept = {tuple(row.tolist()) for row in loss.queue}
    latest = torch.cat(batches)[-4:]
    assert kept == {tuple(row.tolist()) for row in latest}
    # a batch longer than the queue
    long = tokens(10, seed=5)
    loss(long, long)
    kept = {tuple(row.tolist()) for row in loss.queue}
    assert kept == {tuple(row.tolist()) for row in long[-4:]}
    # resumed as it was, and left alone in evaluation
    other = QueueSimilarityLoss(WIDTH, queue_len=4)
    other.load_state_dict(loss.state_dict())
    student = tokens(3, seed=7)
    values = [m.eval()(student, batches[0]) for m in (loss, other)]
    assert values[0] == values[1] > 0
    assert loss.count == 13


def test_patch_loss_equals_a_plain_computation():
    student, teacher = (tokens(2, 3, 2, seed=seed) for seed in (1, 2))
    value = PatchSimilarityLoss(temperature=0.2, loss_weight=3.0)(
        *(x.permute(0, 3, 1, 2) for x in (student, teacher))
    )
    each = [
        plain_kl(
            own.flatten(0, 1), target.flatten(0, 1), target.flatten(0, 1), 0.2
        )
        for own, target in zip(student, teacher, strict=True)
    ]
    assert value.item() == pytest.approx(3 * sum(each) / 2, rel=1e-4)


@pytest.mark.parametrize('kind', ['queue', 'patch'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_zero_at_the_teacher_and_finite_gradients(kind, dtype):
    loss = PatchSimilarityLoss()
    shape = (2, 3, 3)
    if kind == 'queue':
        loss, shape = QueueSimilarityLoss(WIDTH, queue_len=16), (4,)
    teacher = tokens(*shape, seed=1)
    if kind == 'patch':
        teacher = teacher.permute(0, 3, 1, 2)
    with torch.autocast('cpu', torch.bfloat16):
        assert loss(teacher.clone(), teacher).item() < 1e-6
        student = (teacher + 1).to(dtype).requires_grad_()
        value = loss(student, teacher)
    assert value.dtype is torch.float32 and value > 0.01
    value.backward()
    assert student.grad.isfinite().all() and student.grad.abs().sum() > 0
