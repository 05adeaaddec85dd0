"""Tiny data sets for tests, written on the fly."""

from pathlib import Path

from mmfgl.testing.digit_scenes import build_digit_scenes


def tiny_coco(
    root: str | Path,
    num_images: int = 4,
    num_val: int = 2,
    num_unlabelled: int = 4,
    size: tuple[int, int] = (128, 96),
    seed: int = 0,
) -> Path:
    """Write a tiny digit scenes set, laid out like the real one.

    Real pixels and boxes, ten classes, 2 to 8 digits per image; it is built
    well within a second, so a test can have its own. ``size`` is (width,
    height) in pixels; the same seed gives the same bytes.

    Returns:
        ``root``, which is made, with ``train/ val/ unlabelled/`` and
        ``annotations/{train,val}.json`` in COCO format.
    """
    counts = num_images, num_val, num_unlabelled
    build_digit_scenes(root, *counts, size=size, seed=seed)
    return Path(root)
