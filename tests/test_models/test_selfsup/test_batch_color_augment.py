import cv2
import numpy as np
import pytest
import torch
from mmpretrain.models import SelfSupDataPreprocessor

from mmfgl.datasets.transforms.fast_colour import jitter_colours
from mmfgl.models.selfsup import BatchColorAugment
from mmfgl.registry import MODELS

OFF = dict(jitter_prob=0.0, gray_prob=0.0, blur_prob=0.0)


def batch(count=4, size=(24, 32)):
    rng = np.random.default_rng(0)
    images = rng.integers(40, 180, (count, 3, *size)).astype(np.uint8)
    views = [torch.from_numpy(images), torch.from_numpy(images[::-1].copy())]
    return dict(inputs=views, data_samples=[None] * count)


def test_without_operations_it_is_its_parent():
    norm = dict(mean=[1.0, 2, 3], std=[4.0, 5, 6], bgr_to_rgb=True)
    ours = MODELS.build(dict(type='mmfgl.BatchColorAugment', **OFF, **norm))
    wanted = SelfSupDataPreprocessor(**norm)(batch(), training=True)
    found = ours(batch(), training=True)
    assert list(found) == ['inputs', 'data_samples']
    for one, two in zip(found['inputs'], wanted['inputs'], strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=0)


def test_only_training_batches_change():
    ours = BatchColorAugment()
    before = batch()
    found = ours(before, training=False)['inputs']
    assert torch.equal(found[0], before['inputs'][0].float())
    torch.manual_seed(0)
    assert not torch.equal(ours(before, training=True)['inputs'][0], found[0])
    assert torch.equal(before['inputs'][0], batch()['inputs'][0])


@pytest.mark.parametrize('rgb', [False, True])
def test_the_same_colours_as_on_the_cpu(rgb):
    ours = BatchColorAugment(rgb_to_bgr=rgb)
    images = batch()['inputs'][0]
    amounts = np.array(
        [
            [0.7, 1, 1, 0],
            [1.4, 0.6, 1, 0],
            [1, 1, 0, 0.1],
            [1.1, 1.2, 1.3, 0.1],
        ]
    )
    inputs = images.flip(1) if rgb else images
    found = ours._jitter(inputs.float(), *amounts.T)
    found = found.flip(1) if rgb else found
    for image, row, out in zip(images, amounts, found, strict=True):
        bgr = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        expected = jitter_colours(bgr, *row).astype(np.float32)
        error = out.permute(1, 2, 0).numpy() - expected
        assert np.abs(error).max() < 2.5


def test_the_same_blur_as_on_the_cpu():
    images = batch()['inputs'][0].float()
    sigma = np.array([0.5, 0.0, 2.0, 1.0])
    found = BatchColorAugment()._blur(images, sigma)
    assert torch.equal(found[1], images[1])
    for index in (0, 2, 3):
        expected = cv2.GaussianBlur(
            images[index].permute(1, 2, 0).numpy(),
            (13, 13),
            sigma[index],
            borderType=cv2.BORDER_REPLICATE,
        )
        error = found[index].permute(1, 2, 0).numpy() - expected
        assert np.abs(error).max() < 0.05


def test_probabilities_of_the_views():
    ours = BatchColorAugment(
        jitter_prob=0.0, gray_prob=(0.0, 1.0), blur_prob=0.0
    )
    one, two = ours(batch(), training=True)['inputs']
    torch.testing.assert_close(one, batch()['inputs'][0].float())
    assert (two.amax(1) - two.amin(1)).max() < 0.6
    with pytest.raises(ValueError, match='2 entries'):
        ours.augment(batch()['inputs'][0], view=2)
    half = BatchColorAugment(jitter_prob=0, gray_prob=0.3, blur_prob=0)
    torch.manual_seed(0)
    out = half.augment(torch.rand(2000, 3, 2, 2) * 255)
    gray = (out.amax(1) - out.amin(1)).flatten(1).amax(1) < 0.6
    assert gray.float().mean() == pytest.approx(0.3, abs=0.04)


def test_seed_range_and_sizes():
    ours = BatchColorAugment(blur_prob=1.0)
    for size in ((24, 32), (3, 5), (1, 1)):
        images = batch(size=size)['inputs'][0]
        outs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outs.append(ours.augment(images))
        assert torch.equal(outs[0], outs[1])
        assert not torch.equal(outs[0], outs[2])
        assert outs[0].dtype == torch.float32
        assert outs[0].min() >= 0
        assert outs[0].max() <= 255.01


def test_one_view_as_a_tensor():
    data = batch()
    data['inputs'] = data['inputs'][0]
    assert BatchColorAugment()(data, training=True)['inputs'].dim() == 4


@pytest.mark.parametrize(
    'options',
    [
        dict(brightness=-1.0),
        dict(hue=0.7),
        dict(gray_prob=1.5),
        dict(blur_sigma=(0.0, 1.0)),
    ],
)
def test_settings_out_of_range(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BatchColorAugment(**options)
