"""RoIPool that also runs on a CPU, with the numbers of mmcv's operator.

Shape shorthand: B images, C channels, R RoIs, S bins a side (S_y, S_x).
"""

import torch
from mmcv.ops import RoIPool
from torch import Tensor
from torchvision.ops import roi_pool


class DeviceRoIPool(RoIPool):
    """:class:`mmcv.ops.RoIPool` that runs on a CPU too.

    mmcv has no CPU kernel of RoIPool (Fast R-CNN, arXiv 1504.08083), and
    :func:`torchvision.ops.roi_pool` is another operator: it rounds the
    RoI's corners to whole cells first, mmcv does not.

    The bins are those of mmcv's CUDA kernel: a RoI reaches to one past its
    last pixel, a bin covers every cell it touches, and the gradient goes to
    the first of equal maxima. A bin outside the map is 0. So is a RoI with
    negative sides (x2 + 1 <= x1), which gets no gradient; the CUDA kernel
    sends its gradient to cell 0.

    Args:
        output_size: Bins S, or (S_y, S_x).
        spatial_scale: Cells of the feature map a pixel.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """Maximum of the features in each bin of each RoI.

        (B, C, H, W) features and (R, 5) RoIs (image index, x1, y1, x2, y2) in
        network-input pixels give (R, C, S_y, S_x) features.
        """
        if input.device.type != 'cpu':
            return super().forward(input, rois)
        channels, height, width = input.shape[1:]
        num_y, num_x = self.output_size
        shape = (len(rois), num_y, num_x)
        image, x1, y1, x2, y2 = rois.detach().to(input.dtype).unbind(dim=1)
        x1, x2 = _bins(x1, x2, self.spatial_scale, num_x, width)
        y1, y2 = _bins(y1, y2, self.spatial_scale, num_y, height)
        # every bin is a RoI of one bin with whole-numbered corners, of which
        # torchvision has nothing to round off
        bins = [
            image[:, None, None].expand(shape),
            x1[:, None, :].expand(shape),
            y1[:, :, None].expand(shape),
            (x2 - 1)[:, None, :].expand(shape),
            (y2 - 1)[:, :, None].expand(shape),
        ]
        full = (bins[3] >= bins[1]) & (bins[4] >= bins[2])
        out = roi_pool(input, torch.stack(bins, dim=-1).view(-1, 5), 1, 1.0)
        out = torch.where(full[..., None], out.view(*shape, channels), 0.0)
        return out.permute(0, 3, 1, 2).contiguous()


def _bins(
    low: Tensor, high: Tensor, scale: float, num: int, size: int
) -> tuple[Tensor, Tensor]:
    """(R, S) first and one-past-last cells of ``num`` bins along one axis.

    RoIs reach from pixel ``low`` to ``high``; the map has ``size`` cells.
    """
    start = low * scale
    length = (high + 1) * scale - start
    step = (length / num)[:, None]
    index = torch.arange(num + 1, device=low.device, dtype=low.dtype)
    first = (index[:-1] * step + start[:, None]).floor().clamp(0, size)
    last = (index[1:] * step + start[:, None]).ceil().clamp(0, size)
    last = torch.where(length[:, None] > 0, last, first)
    return first, last
