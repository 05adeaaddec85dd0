"""Boxes without area, turned round, not finite, or outside the image.

They come from annotations of another image size, crops, and proposals of
files.
"""

import torch

NAN = float('nan')
INF = float('inf')
SIZE = (64, 96)  # height, width
EMPTY = dict(
    no_width=(10, 5, 10, 30),
    no_height=(10, 5, 30, 5),
    point=(0, 0, 0, 0),
    turned=(30, 40, 10, 20),
    narrow_turned=(30, 20, 10, 40),
    clipped=(96, 64, 96, 64),
    nan=(10, NAN, 30, 40),
    infinite=(10, 5, INF, 30),
)
STRANGE = dict(
    sliver=(10, 5, 10 + 1e-5, 30),
    outside=(200, 200, 260, 240),
    negative=(-90, -60, -20, -10),
    all=(0, 0, 96, 64),
    huge=(-1e5, -1e5, 1e5, 1e5),
)
ODD = EMPTY | STRANGE
BOXES = torch.tensor(list(ODD.values())).float()
USUAL = torch.tensor([[8.0, 8, 40, 40], [30, 10, 90, 60]])
MIXED = torch.cat([BOXES, USUAL])
DTYPES = [torch.float32, torch.bfloat16]


def bf16(dtype):
    return torch.autocast(
        'cpu', torch.bfloat16, enabled=dtype == torch.bfloat16
    )
