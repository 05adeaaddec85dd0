import pytest
import torch

from mmfgl.models.layers import pairwise_iou
from mmfgl.models.selfsup import encode_regions, encode_views
from mmfgl.models.selfsup.region_encoding import Masking, shared_features
from mmfgl.testing import randomise_weights, tiny_plain_detector_cfg

# 1 overlaps 0 by 0.82 and 2 by 0.43; 3 lies apart
OVERLAPS = torch.tensor(
    [[[0.0, 0, 20, 40], [2, 0, 22, 40], [10, 0, 30, 40], [40, 0, 60, 40]]]
)
CHANGE = torch.linspace(0, 3, 16)  # a constant would be normalised away


@torch.no_grad()
def encode(head, content, leak_iou, monkeypatch):
    """(N, D) tokens of given content, the second of them masked."""
    monkeypatch.setattr(head, 'region_tokens', lambda feats, rois: content)
    masked = torch.tensor([[False, True, False, False]])
    masking = Masking(masked, torch.ones(16), leak_iou)
    return encode_regions(head, (), OVERLAPS, (64, 64), masking)[0]


def readers(retod, monkeypatch, leak_iou=0.5):
    """Tokens that change with the content of each token."""
    iou = pairwise_iou(OVERLAPS, OVERLAPS)[0]
    assert iou[0, 1] > 0.5 and 0.1 < iou[1, 2] < 0.5
    head = randomise_weights(retod.build().eval().roi_head)
    torch.manual_seed(0)
    content = torch.randn(4, 16)
    expected = encode(head, content, leak_iou, monkeypatch)
    found = []
    for row in range(4):
        other = content.clone()
        other[row] += CHANGE
        tokens = encode(head, other, leak_iou, monkeypatch)
        moved = ~torch.isclose(tokens, expected, atol=1e-5).all(dim=1)
        found.append(moved.nonzero().flatten().tolist())
    return found


def test_masked_tokens_lose_their_content(retod, monkeypatch):
    # nobody sees the content of the masked token, not even itself; it may
    # not copy its answer off 0, but may read 2; 0 and 2 see each other
    assert readers(retod, monkeypatch) == [[0, 2], [], [0, 1, 2], [3]]


def test_leak_iou(retod, monkeypatch):
    assert readers(retod, monkeypatch, leak_iou=0.9)[0] == [0, 1, 2]


@pytest.mark.parametrize('plain', [False, True])
@torch.no_grad()
def test_images_do_not_influence_each_other(retod, plain):
    detector = tiny_plain_detector_cfg() if plain else None
    model = retod.build('distill', detector=detector).eval()
    randomise_weights(model.roi_head)
    batch = retod.batch_of(model, num_images=3)
    boxes = torch.stack([s.boxes[0] for s in batch['data_samples']])

    def run(*rows):
        rows = list(rows)
        feats = model.extract_feat(batch['inputs'][0][rows])
        return encode_regions(model.roi_head, feats, boxes[rows], (64, 64))

    alone = run(0)
    for together, row in ((run(0, 1), 0), (run(2, 0), 1)):
        torch.testing.assert_close(
            together[row], alone[0], atol=1e-4, rtol=1e-3
        )


def test_plain_tokens_are_the_shared_layers_output(retod):
    model = retod.build('objectness', detector=tiny_plain_detector_cfg())
    head = model.eval().roi_head
    batch = retod.batch_of(model)
    feats = model.extract_feat(batch['inputs'])
    rois = torch.tensor([[0.0, 4, 4, 40, 50], [1, 10, 8, 60, 30]])
    seen = []
    head.bbox_head.fc_cls.register_forward_hook(
        lambda _, args, out: seen.append(args[0])
    )
    head.bbox_head(head.bbox_roi_extractor(feats, rois))
    tokens = shared_features(head, feats, rois)
    torch.testing.assert_close(tokens, seen[0])
    assert shared_features(head, feats, rois[:0]).shape == (0, 24)
    last = [f.contiguous(memory_format=torch.channels_last) for f in feats]
    torch.testing.assert_close(shared_features(head, last, rois), tokens)


def test_views_of_both_branches(retod):
    model = retod.build().eval()
    batch = retod.batch_of(model)
    inputs, samples = batch['inputs'], batch['data_samples']
    student = encode_views(model, inputs, samples)
    assert student.shape[:2] == (2, 2) and not student.requires_grad
    teacher = encode_views(model, inputs, samples, 'teacher')
    torch.testing.assert_close(teacher, student)
    randomise_weights(model.target_generator.roi_head)
    changed = encode_views(model, inputs, samples, 'teacher')
    assert not torch.allclose(changed, student)
    with pytest.raises(ValueError, match='no EMA teacher'):
        encode_views(retod.build('objectness'), inputs, samples, 'teacher')
