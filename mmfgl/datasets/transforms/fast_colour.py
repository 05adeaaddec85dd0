"""Colour operations through tables and one matrix."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from mmfgl.registry import TRANSFORMS

# from B, G, R; the first row is the luma
YIQ = np.array(
    [[0.114, 0.587, 0.299], [-0.322, -0.274, 0.596], [0.312, -0.523, 0.211]]
)


@TRANSFORMS.register_module()
class TableColorJitter(BaseTransform):
    """Colour jitter and grey in two passes over the pixels.

    Factors are drawn as in mmpretrain's ``ColorJitter``; brightness and
    contrast become one table of 256 entries, saturation, hue and grey one
    3 x 3 matrix. The order is fixed: brightness, contrast, saturation and hue,
    grey. The hue is turned as :func:`colour_matrix` says.

    Args:
        brightness: Factor in [1 - brightness, 1 + brightness].
        contrast: Factor of the distance to the mean luma, likewise.
        saturation: Factor of the distance to grey, likewise.
        hue: Turn in [-hue, hue], in shares of the colour circle, up to 0.5.
        prob: Probability of the jitter.
        gray_prob: Probability of grey (three equal channels).

    Raises:
        ValueError: If an amount or a probability is out of range.
    """

    def __init__(
        self,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        prob: float = 1.0,
        gray_prob: float = 0.0,
    ) -> None:
        factors = dict(brightness=brightness, contrast=contrast)
        factors |= dict(saturation=saturation)
        _check(1, prob=prob, gray_prob=gray_prob)
        _check(0.5, hue=hue)
        _check(float('inf'), **factors)
        self.ranges = [(max(0.0, 1 - a), 1 + a) for a in factors.values()]
        self.ranges.append((-hue, hue))
        self.prob = prob
        self.gray_prob = gray_prob

    def transform(self, results: dict) -> dict:
        """Jitter ``img``, (H, W, 3) BGR uint8."""
        amounts = [1.0, 1.0, 1.0, 0.0]  # brightness, contrast, saturation, hue
        if np.random.rand() < self.prob:
            amounts = [np.random.uniform(*limits) for limits in self.ranges]
        if np.random.rand() < self.gray_prob:
            amounts[2] = 0.0
        results['img'] = jitter_colours(results['img'], *amounts)
        return results


def jitter_colours(
    img: np.ndarray,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
) -> np.ndarray:
    """Change the colours of an (H, W, 3) BGR uint8 image by given amounts.

    Factors of the values, of their distance to the mean luma and of that to
    grey; the turn of the hue in shares of the colour circle.
    """
    if brightness != 1 or contrast != 1:
        table = np.clip(np.arange(256) * brightness, 0, 255)
        if contrast != 1:
            bright = cv2.LUT(img, np.rint(table).astype(np.uint8))
            mean = YIQ[0] @ cv2.mean(bright)[:3]
            table = np.clip(contrast * table + (1 - contrast) * mean, 0, 255)
        img = cv2.LUT(img, np.rint(table).astype(np.uint8))
    if saturation != 1 or hue != 0:
        img = cv2.transform(img, colour_matrix(saturation, hue))
    return img


def colour_matrix(saturation: float, hue: float) -> np.ndarray:
    """(3, 3) matrix for (B, G, R) that keeps the luma.

    The hue is turned in the chroma plane of YIQ, where it is linear, not in
    HSV.

    Args:
        saturation: Factor; 0 gives grey, 1 changes nothing.
        hue: Turn in shares of the colour circle.
    """
    cos = saturation * np.cos(2 * np.pi * hue)
    sin = saturation * np.sin(2 * np.pi * hue)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return np.linalg.inv(YIQ) @ turn @ YIQ


@TRANSFORMS.register_module()
class FastGaussianBlur(BaseTransform):
    """Gaussian blur of random strength through OpenCV.

    Args:
        sigma: Least and largest standard deviation in pixels.
        prob: Probability of the blur.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(
        self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5
    ) -> None:
        _check(1, prob=prob)
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f'sigma needs 0 < least <= largest, got {sigma}')
        self.sigma = tuple(sigma)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Blur ``img``, (H, W, 3) uint8."""
        if np.random.rand() < self.prob:
            sigma = np.random.uniform(*self.sigma)
            size = (2 * int(np.ceil(3 * sigma)) + 1,) * 2
            results['img'] = cv2.GaussianBlur(results['img'], size, sigma)
        return results


def _check(most: float, **values: float) -> None:
    """Raise a ValueError that names a value outside [0, most]."""
    for name, value in values.items():
        if not 0 <= value <= most:
            raise ValueError(f'{name} must lie in [0, {most}], got {value}')
