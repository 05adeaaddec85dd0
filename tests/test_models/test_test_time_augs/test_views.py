import pytest
import torch
from mmdet.structures import DetDataSample

from mmfgl.models.test_time_augs.views import View, arrange_views

FLIPS = [None, 'horizontal', 'vertical', 'diagonal']


def meta(size=(50, 100), ori=(100, 200), shape=None, flip=None, window=None):
    left, top, right, bottom = window or (0, 0, ori[1], ori[0])
    return dict(
        ori_shape=ori,
        img_shape=shape or size,
        scale_factor=(size[1] / (right - left), size[0] / (bottom - top)),
        flip=flip is not None,
        flip_direction=flip,
        **(dict(slice_window=window) if window else {}),
    )


def loaded(metas):
    """A batch of one image, seen in several views."""
    samples = [[DetDataSample(metainfo=m)] for m in metas]
    inputs = [[torch.zeros(3, *m['img_shape'])] for m in metas]
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize(
    ('target', 'expected'),
    [
        (dict(size=(50, 300), flip='horizontal'), [240, 10, 285, 30]),
        (dict(size=(50, 300), flip='vertical'), [15, 20, 60, 40]),
        # the part from (5, 10) to (55, 60), twice as large
        (dict(size=(100, 100), window=(5, 10, 55, 60)), [10, 20, 70, 100]),
        (
            dict(size=(100, 100), window=(5, 10, 55, 60), flip='vertical'),
            [10, 0, 70, 80],
        ),
    ],
)
def test_a_box_by_hand(target, expected):
    box = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
    source = View.from_meta(meta((100, 200)))
    seen = source.to(box, View.from_meta(meta(**target)))
    assert seen.tolist() == [expected]


@pytest.mark.parametrize('flip_from', FLIPS)
@pytest.mark.parametrize('flip_to', FLIPS)
@pytest.mark.parametrize('window', [None, (40, 10, 180, 100)])
def test_there_and_back(flip_from, flip_to, window):
    torch.manual_seed(0)
    boxes = (torch.rand(5, 3, 2, 2).sort(dim=2).values * 50).reshape(5, 12)
    source = View.from_meta(meta((50, 100), flip=flip_from))
    target = View.from_meta(meta((131, 173), flip=flip_to, window=window))
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


@pytest.mark.parametrize('flip', FLIPS)
def test_boxes_that_touch_a_cut_are_not_shown_whole(flip):
    upright = View.from_meta(meta((100, 200)))
    boxes = [[0.0, 0, 50, 20], [9, 9, 98, 20], [9, 9, 100, 20], [9, 9, 20, 60]]
    # the upper left quarter: cut at the right and below, not at the others
    for window, expected in (
        ((0, 0, 100, 50), [True, True, False, False]),
        (None, [True] * 4),
    ):
        view = View.from_meta(meta((100, 200), flip=flip, window=window))
        seen = upright.to(torch.tensor(boxes), view)
        assert view.shows_whole(seen).tolist() == expected


@pytest.mark.parametrize(
    'key',
    ['ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'],
)
def test_metas_that_tell_no_view(key):
    incomplete = meta(flip='vertical')
    incomplete.pop(key)
    with pytest.raises(ValueError, match=rf"\['{key}'\].*meta_keys"):
        View.from_meta(incomplete)
    with pytest.raises(ValueError, match='cropped by mmfgl.ImageSlice alone'):
        View.from_meta(meta(shape=(40, 100)))


def test_order():
    sizes = [(200, 400), (50, 100), (100, 200)]
    metas = [meta(s, flip=f) for s in sizes for f in FLIPS]
    for shift in range(0, len(metas), 5):
        mixed = metas[shift:] + metas[:shift]
        arranged = arrange_views(loaded(mixed))
        assert arranged[0][0] == [View.from_meta(meta((100, 200)))]
        rest = [views[0].order for views, _ in arranged[1:]]
        assert rest == sorted(rest) and len(set(rest)) == 11
        for (view,), data in arranged:
            (sample,) = data['data_samples']
            assert View.from_meta(sample.metainfo) == view
            assert data['inputs'][0].shape[1:] == sample.img_shape


def test_reference_among_scales_and_slices():
    small_slice = meta((40, 50), window=(0, 0, 100, 80))
    metas = [meta((100, 200)), meta((50, 100)), small_slice]
    (first,), _ = arrange_views(loaded(metas))[0]
    assert first.size == (100, 200)
    with pytest.raises(ValueError, match='whole image without a flip'):
        arrange_views(loaded([meta(flip='vertical'), small_slice]))


def test_batches_that_are_no_views():
    data = loaded([meta()])
    with pytest.raises(ValueError, match='TestTimeAug'):
        arrange_views({k: v[0] for k, v in data.items()})
    with pytest.raises(ValueError, match='data_samples'):
        arrange_views([data])
