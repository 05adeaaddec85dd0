import pytest
import torch
import torch.nn.functional as F

from mmfgl.models.selfsup import RegionProjector


def build():
    torch.manual_seed(0)
    return RegionProjector(
        in_channels=8, hidden_channels=12, out_channels=6, num_prototypes=10
    )


def tokens(*shape):
    return torch.randn(*shape, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize('shape', [(5,), (2, 5), (2, 3, 5), (0,)], ids=str)
def test_shape(shape):
    # BatchNorm needs tokens to learn its statistics from
    assert build().eval()(tokens(*shape)).shape == (*shape, 10)


@pytest.mark.parametrize('training', [True, False])
def test_logits_are_cosines_with_the_prototypes(training):
    projector = build().train(training)
    logits = projector(tokens(2, 5))
    expected = F.cosine_similarity(
        projector.layers(tokens(10)).unsqueeze(1),
        projector.prototypes.weight,
        dim=-1,
    )
    torch.testing.assert_close(logits, expected.view(2, 5, 10))
    assert logits.abs().max() <= 1 + 1e-6
    assert logits.std() > 0.1


def test_nearly_parallel_tokens_are_told_apart():
    same = tokens(1) + 1e-3 * tokens(30)
    assert F.cosine_similarity(same[:1], same[1:]).min() > 0.99
    logits = build()(same)
    assert F.cosine_similarity(logits[:1], logits[1:]).mean() < 0.5


def test_fp32_under_autocast():
    projector = build()
    with torch.autocast('cpu', torch.bfloat16):
        logits = projector(tokens(5))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, projector(tokens(5)), atol=0.05, rtol=0)
