import pytest
import torch
from torch.nn.functional import one_hot

from mmfgl.models.losses import RegionTargets, target_statistics

PROTOTYPES = 12
MODES = ['centring', 'sinkhorn']


def cosines(*shape, seed=0):
    """Logits as the projector gives them: cosines in [-1, 1]."""
    return torch.rand(*shape, generator=torch.manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_targets_are_distributions(mode, dtype):
    targets = RegionTargets(PROTOTYPES, mode)(
        cosines(3, 7, PROTOTYPES).to(dtype)
    )
    assert targets.shape == (3, 7, PROTOTYPES)
    assert targets.dtype == torch.float32
    assert (targets >= 0).all()
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(3, 7))


@pytest.mark.parametrize('temperature', [0.05, 0.01])
@pytest.mark.parametrize('mode', MODES)
def test_far_tokens_and_dead_prototypes_get_distributions(mode, temperature):
    logits = cosines(20, PROTOTYPES) / 10 + 0.9
    logits[3] -= 1.8  # a token far from every prototype
    logits[:, 5] -= 1.8  # a prototype far from every token
    targets = RegionTargets(PROTOTYPES, mode, temperature)(logits)
    assert targets.isfinite().all()
    torch.testing.assert_close(targets.sum(dim=-1), torch.ones(20))


@pytest.mark.parametrize('mode', MODES)
def test_targets_carry_no_gradient(mode):
    logits = cosines(6, PROTOTYPES).requires_grad_()
    assert not RegionTargets(PROTOTYPES, mode)(logits).requires_grad


def test_sinkhorn_equals_the_textbook_algorithm():
    logits = cosines(10, PROTOTYPES)
    plan = (logits.double() / 0.1).exp()
    for _ in range(3):
        plan = plan / plan.sum(dim=0) / PROTOTYPES
        plan = plan / plan.sum(dim=1, keepdim=True)
    targets = RegionTargets(PROTOTYPES, temperature=0.1)(logits)
    torch.testing.assert_close(targets.double(), plan, atol=1e-6, rtol=1e-4)


def test_sinkhorn_ignores_a_common_offset():
    logits = cosines(10, PROTOTYPES)
    targets = RegionTargets(PROTOTYPES)
    torch.testing.assert_close(
        targets(logits + 3), targets(logits), atol=1e-4, rtol=1e-3
    )


def test_centre_moves_only_in_training():
    targets = RegionTargets(PROTOTYPES, 'centring', centre_momentum=0.9)
    logits = cosines(20, PROTOTYPES)
    targets.eval()(logits)
    assert (targets.centre == 0).all()
    first = targets.train()(logits)
    mean = logits.mean(dim=0)
    torch.testing.assert_close(targets.centre, 0.1 * mean)
    # the batch's targets come from the centre before it
    torch.testing.assert_close(first, (logits / 0.05).softmax(dim=-1))
    second = targets(logits)
    expected = ((logits - 0.1 * mean) / 0.05).softmax(dim=-1)
    torch.testing.assert_close(second, expected)
    torch.testing.assert_close(targets.centre, 0.19 * mean)
    assert 'centre' in targets.state_dict()


def test_unknown_mode():
    with pytest.raises(ValueError, match="'greedy'"):
        RegionTargets(PROTOTYPES, 'greedy')


@pytest.mark.parametrize(
    ('targets', 'entropy', 'diversity'),
    [
        # all tokens on one prototype: collapsed
        (one_hot(torch.zeros(8).long(), 4), 0, 0),
        # each prototype used by as many tokens: ideal
        (one_hot(torch.arange(8) % 4, 4), 0, 1),
        # no token says anything: collapsed
        (torch.full((8, 4), 0.25), 1, 1),
        # half of the prototypes
        (one_hot(torch.arange(8) % 2, 4), 0, 0.5),
    ],
)
def test_target_statistics(targets, entropy, diversity):
    found = target_statistics(targets.float().view(2, 4, 4))
    assert set(found) == {'teacher_entropy', 'teacher_diversity'}
    assert found['teacher_entropy'].item() == pytest.approx(entropy, abs=1e-6)
    assert found['teacher_diversity'].item() == pytest.approx(
        diversity, abs=1e-6
    )
