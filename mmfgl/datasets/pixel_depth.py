"""Pixels of any type as bytes."""

from logging import WARNING

import numpy as np
from mmengine.logging import print_log

from mmfgl.utils.names import printable


def to_bgr_bytes(img: np.ndarray, path: str) -> np.ndarray:
    """(H, W, 3) uint8 of an image of any type and number of channels.

    Args:
        img: (H, W) or (H, W, C); of more than three channels, the first
            three are taken, of two the first.
        path: Its file, for the message about the first image that is scaled.
    """
    img = img.reshape(*img.shape[:2], -1)
    img = img[..., :3] if img.shape[2] >= 3 else img[..., :1]
    if img.dtype != np.uint8:
        img = _to_bytes(img, path)
    return np.ascontiguousarray(np.broadcast_to(img, (*img.shape[:2], 3)))


def _to_bytes(img: np.ndarray, path: str) -> np.ndarray:
    """Scale values of more than 8 bits to uint8, by the range they use."""
    if img.dtype.kind == 'f':
        img = np.nan_to_num(img, posinf=0, neginf=0)
    low, high = img.min().item(), img.max().item()
    if low >= 0 and img.dtype.kind in 'iu' and high < 2**16:
        bits = next(b for b in (8, 10, 12, 14, 16) if high < 2**b)
        _report(f'values from 0 to {high}', f'{bits} bits', path)
        return (img >> (bits - 8)).astype(np.uint8)
    if low >= 0 and img.dtype.kind == 'f' and high <= 255:
        low, high = 0, 1 if high <= 1 else 255
    _report(f'{img.dtype} values', f'[{low:g}, {high:g}]', path)
    scale = 255 / ((high - low) or 1)
    return np.rint((img.astype(np.float32) - low) * scale).astype(np.uint8)


def _report(what: str, scale: str, path: str) -> None:
    """Warn of the first image of a process that is scaled, and of another way.

    16 bits are nothing to warn of, unless other images are taken otherwise.
    """
    if len(_scales) > 1 or scale in _scales:
        return
    _scales.append(scale)
    name = printable(path) or 'image'
    if len(_scales) > 1:
        text = (
            f'{name}: {what}, taken as {scale}, where others were taken as '
            f'{_scales[0]}: images of one camera are not equally bright then; '
            'convert them to 8 bits yourself'
        )
    elif scale != '16 bits':
        text = (
            f'{name}: {what}, taken as {scale}; scaled to 8 bits, as other '
            'images are by their own range'
        )
    else:
        return
    print_log(text, logger='current', level=WARNING)


_scales: list[str] = []  # of this process, the first two
