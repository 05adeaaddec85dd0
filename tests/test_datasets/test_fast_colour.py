"""TableColorJitter and FastGaussianBlur against slow references."""

import cv2
import numpy as np
import pytest

from mmfgl.datasets.transforms import fast_colour
from mmfgl.datasets.transforms.fast_colour import (
    FastGaussianBlur,
    TableColorJitter,
    colour_matrix,
    jitter_colours,
)
from mmfgl.registry import TRANSFORMS

LUMA = np.array([0.114, 0.587, 0.299])  # of B, G, R


def picture(low=0, high=256):
    rng = np.random.default_rng(0)
    return rng.integers(low, high, (32, 48, 3)).astype(np.uint8)


def reference(img, brightness, contrast, saturation, hue):
    """Pixel by pixel in float, without tables and matrices."""
    out = np.clip(img.astype(float) * brightness, 0, 255)
    mean = (out @ LUMA).mean()
    out = np.clip(mean + contrast * (out - mean), 0, 255)
    luma = (out @ LUMA)[..., None]
    b, g, r = (saturation * (out - luma)).transpose(2, 0, 1)
    i = 0.596 * r - 0.274 * g - 0.322 * b
    q = 0.211 * r - 0.523 * g + 0.312 * b
    chroma = (i + 1j * q) * np.exp(2j * np.pi * hue)
    i, q = chroma.real, chroma.imag
    b, g = -1.106 * i + 1.703 * q, -0.272 * i - 0.647 * q
    r = 0.956 * i + 0.621 * q
    return np.clip(np.stack([b, g, r], axis=-1) + luma, 0, 255)


@pytest.mark.parametrize(
    'amounts',
    [(0.6, 1, 1, 0), (1.4, 1, 1, 0), (1, 0.6, 1, 0), (1.4, 0.5, 1, 0)]
    + [(1, 1.4, 1.4, 0), (1, 1, 0, 0), (1, 1, 1, -0.1), (1, 1, 1, 0.5)]
    + [(1.2, 1.3, 0.7, 0.07)],
)
def test_against_the_reference(amounts):
    for limits in ((0, 256), (60, 140)):
        img = picture(*limits)
        error = jitter_colours(img, *amounts) - reference(img, *amounts)
        # the table rounds once, the matrix carries it on
        assert np.abs(error).max() <= 2.5
        assert abs(error.mean()) <= 0.6


def test_nothing_changes_at_zero_strength():
    for options in ({}, dict(brightness=0.9, hue=0.5, prob=0.0)):
        config = dict(type='mmfgl.TableColorJitter', **options)
        jitter = TRANSFORMS.build(config)
        assert np.array_equal(jitter(dict(img=picture()))['img'], picture())
    np.testing.assert_allclose(colour_matrix(1, 0), np.eye(3), atol=1e-9)


def test_gray():
    jitter = TableColorJitter(0.4, 0.4, 0.4, 0.1, gray_prob=1.0)
    np.random.seed(0)
    out = jitter(dict(img=picture()))['img'].astype(int)
    assert np.ptp(out, axis=-1).max() <= 1
    expected = cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY)
    only = TableColorJitter(gray_prob=1.0)(dict(img=picture()))['img']
    assert np.abs(only[..., 0].astype(int) - expected).max() <= 1


def test_ranges_and_probabilities(monkeypatch):
    drawn = []

    def record(img, *amounts):
        drawn.append(amounts)

    monkeypatch.setattr(fast_colour, 'jitter_colours', record)
    jitter = TableColorJitter(0.4, 0.3, 0.2, 0.1, prob=0.8, gray_prob=0.2)
    np.random.seed(0)
    for _ in range(4000):
        jitter(dict(img=None))
    drawn = np.array(drawn)
    jittered, gray = drawn[:, 0] != 1, drawn[:, 2] == 0
    assert jittered.mean() == pytest.approx(0.8, abs=0.02)
    for share in (gray.mean(), gray[jittered].mean()):
        assert share == pytest.approx(0.2, abs=0.03)
    drawn = drawn[jittered & ~gray] - [1, 1, 1, 0]
    drawn /= [0.4, 0.3, 0.2, 0.1]  # uniform in [-1, 1]
    assert np.abs(drawn).max() <= 1
    np.testing.assert_allclose(drawn.max(axis=0), 1, atol=0.02)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(drawn.std(axis=0), 3**-0.5, atol=0.03)


def test_seed():
    jitter = TableColorJitter(0.4, 0.4, 0.2, 0.1)
    for transform in (jitter, FastGaussianBlur(prob=1.0)):
        outs = []
        for seed in (1, 1, 2):
            np.random.seed(seed)
            outs.append(transform(dict(img=picture()))['img'])
            assert outs[-1].dtype == np.uint8
        assert np.array_equal(outs[0], outs[1])
        assert not np.array_equal(outs[0], outs[2])


@pytest.mark.parametrize('sigma', [0.3, 1.0, 2.0])
def test_blur_spreads_a_dot_as_a_gaussian(sigma):
    img = np.zeros((41, 41, 3), np.uint8)
    img[16:25, 16:25] = 255
    out = FastGaussianBlur((sigma, sigma), prob=1.0)(dict(img=img))['img']
    x = np.arange(-20, 21)
    kernel = np.exp(-0.5 * (x / sigma) ** 2)
    row = np.convolve((np.abs(x) <= 4) * 1.0, kernel / kernel.sum(), 'same')
    assert np.abs(out[..., 1] - 255 * np.outer(row, row)).max() <= 4
    same = FastGaussianBlur(prob=0.0)(dict(img=img))['img']
    assert np.array_equal(same, img)


def test_settings_out_of_range():
    wrong = dict(brightness=-0.1, hue=0.6, prob=1.1, gray_prob=-1)
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f'{name} must lie in'):
            TableColorJitter(**{name: value})
    for name, value in [('prob', 2), ('sigma', (0, 1)), ('sigma', (2, 1))]:
        with pytest.raises(ValueError, match=name):
            FastGaussianBlur(**{name: value})
