import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmfgl.models.layers import level_positions, readable_levels, roi_levels

LEVELS, SCALE = 4, 56
# sides of square RoIs, their own levels and the second nearest ones
SIDES = [20.0, 70, 100, 130, 200, 260, 420, 500, 1000, 9000]
OWN = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 3])
NEAREST = torch.tensor([-1, -1, 1, 0, 2, 1, 3, 2, 4, 4])


def squares(sides):
    rois = torch.zeros(len(sides), 5)
    rois[:, 3:] = torch.tensor(sides)[:, None]
    return rois


def test_own_levels_are_those_of_mmdet():
    generator = torch.Generator().manual_seed(0)
    rois = torch.rand(200, 5, generator=generator) * 700
    rois[:, 3:] += rois[:, 1:3]
    rois = torch.cat([rois, squares([56.0, 112, 224, 448, 896, 0])])
    parent = SingleRoIExtractor(
        dict(type='RoIAlign', output_size=3), 1, [4, 8, 16, 32], SCALE
    )
    expected = parent.map_roi_levels(rois, LEVELS)
    assert torch.equal(roi_levels(rois, LEVELS, SCALE), expected)
    assert expected.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize('shift', [0, -2, 1, 7, 'nearest'])
@pytest.mark.parametrize('dtype', [torch.float, torch.half, torch.bfloat16])
def test_shifts(shift, dtype):
    # the area of 260 x 260 pixels is beyond the largest fp16 number
    moved = NEAREST if shift == 'nearest' else OWN + shift
    seen = roi_levels(squares(SIDES).to(dtype), LEVELS, SCALE, shift)
    assert torch.equal(seen, moved.clamp(0, LEVELS - 1))


def test_boxes_without_area_are_small():
    rois = torch.tensor(
        [[0.0, 5, 5, 5, 9], [0, 9, 9, 5, 5], [0, 900, 0, 0, 9]]
    )
    for shift in (0, 'nearest'):
        assert roi_levels(rois, LEVELS, SCALE, shift).tolist() == [0, 0, 0]
    assert level_positions(rois, SCALE).isfinite().all()


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_readable_levels(dtype):
    level = torch.randn(2, 3, 4, 5).to(dtype)
    last = level.to(memory_format=torch.channels_last)
    for seen in readable_levels([level, last]):
        assert seen.dtype == torch.float32 and seen.is_contiguous()
        assert torch.equal(seen, level.float())
    if dtype == torch.float32:
        assert readable_levels([level])[0] is level
