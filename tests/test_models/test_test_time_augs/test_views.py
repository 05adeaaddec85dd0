import pytest
import torch
from mmdet.structures import DetDataSample

from mmfgl.models.test_time_augs.views import (
    View,
    arrange_views,
    scale_ranks,
)

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']


def meta(size=(50, 100), ori=(100, 200), shape=None, flip=None, **extra):
    return dict(
        ori_shape=ori,
        img_shape=shape or size,
        scale_factor=(size[1] / ori[1], size[0] / ori[0]),
        flip=flip is not None,
        flip_direction=flip,
        **extra,
    )


def loaded(metas):
    """A batch of one image, seen in several views."""
    samples = [[DetDataSample(metainfo=m)] for m in metas]
    inputs = [[torch.zeros(3, *m['img_shape'])] for m in metas]
    return dict(inputs=inputs, data_samples=samples)


def test_a_box_by_hand():
    box = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    source = View.from_meta(meta((100, 200)))
    target = View.from_meta(meta((50, 300), flip='horizontal'))
    expected = torch.tensor([[240.0, 10.0, 285.0, 30.0]])
    assert torch.equal(source.to(box, target), expected)
    expected = torch.tensor([[15.0, 20.0, 60.0, 40.0]])
    target = View.from_meta(meta((50, 300), flip='vertical'))
    assert torch.equal(source.to(box, target), expected)


@pytest.mark.parametrize('flip_from', FLIPS)
@pytest.mark.parametrize('flip_to', FLIPS)
def test_there_and_back(flip_from, flip_to):
    torch.manual_seed(0)
    boxes = (torch.rand(5, 3, 2, 2).sort(dim=2).values * 50).reshape(5, 12)
    source = View.from_meta(meta((50, 100), flip=flip_from))
    target = View.from_meta(meta((131, 173), flip=flip_to))
    there = source.to(boxes, target)
    torch.testing.assert_close(target.to(there, source), boxes)
    # corners stay in order
    corners = there.reshape(5, 3, 2, 2)
    assert (corners[..., 1, :] >= corners[..., 0, :]).all()


def test_same_view_returns_the_same_tensor():
    boxes = torch.rand(3, 4, dtype=torch.bfloat16)
    view = View.from_meta(meta())
    assert view.to(boxes, View.from_meta(meta())) is boxes
    other = View.from_meta(meta(flip='horizontal'))
    assert view.to(boxes, other).dtype == torch.float32


def test_padding_does_not_move_the_flip():
    padded = View.from_meta(meta(shape=(64, 128), flip='horizontal'))
    assert padded == View.from_meta(meta(flip='horizontal'))


@pytest.mark.parametrize(
    'key', ['ori_shape', 'img_shape', 'scale_factor', 'flip']
)
def test_missing_meta_key(key):
    incomplete = {k: v for k, v in meta().items() if k != key}
    with pytest.raises(ValueError, match=rf"\['{key}'\].*meta_keys"):
        View.from_meta(incomplete)


def test_flip_without_direction():
    incomplete = meta(flip='vertical')
    incomplete.pop('flip_direction')
    with pytest.raises(ValueError, match=r"\['flip_direction'\]"):
        View.from_meta(incomplete)


def test_cropped_view():
    with pytest.raises(ValueError, match='not cropped'):
        View.from_meta(meta(shape=(40, 100)))


@pytest.mark.parametrize(
    'reference, size',
    [
        ('median', (100, 200)),
        ('smallest', (50, 100)),
        ('largest', (200, 400)),
        ((210, 105), (100, 200)),
        ((1000, 1000), (200, 400)),
    ],
)
def test_reference(reference, size):
    sizes = [(200, 400), (50, 100), (100, 200)]
    metas = [meta(s, flip=f) for s in sizes for f in FLIPS]
    for shift in range(0, len(metas), 5):
        mixed = metas[shift:] + metas[:shift]
        batches = arrange_views(loaded(mixed), reference)
        assert batches[0].views[0] == View.from_meta(meta(size))
        rest = [batch.views[0].order for batch in batches[1:]]
        assert rest == sorted(rest) and len(set(rest)) == 11
        for batch in batches:
            assert batch.inputs[0].shape[1:] == batch.metas[0]['img_shape']


def test_median_of_two_scales_is_the_larger():
    metas = [meta((100, 200)), meta((50, 100))]
    first = arrange_views(loaded(metas), 'median')[0]
    assert first.views[0].size == (100, 200)


def test_scale_ranks():
    sizes = [(200, 400), (50, 100), (50, 100)]
    views = [View.from_meta(meta(s, flip=f)) for s in sizes for f in FLIPS[:2]]
    # two scales give this image the same size; either rank is right
    assert scale_ranks(views) == [2, 2, 0, 0, 1, 1]
    with pytest.raises(ValueError, match='same number of scales'):
        scale_ranks(views[:3])


def test_batches_that_are_no_views():
    data = loaded([meta()])
    with pytest.raises(ValueError, match='TestTimeAug'):
        arrange_views({k: v[0] for k, v in data.items()}, 'median')
    with pytest.raises(ValueError, match='data_samples'):
        arrange_views([data], 'median')
