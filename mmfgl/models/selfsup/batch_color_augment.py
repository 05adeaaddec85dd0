"""Colour augmentation of whole batches on the model's device.

Shape shorthand: B images, H x W pixels, K side of the blur's kernel.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmpretrain.models import SelfSupDataPreprocessor
from torch import Tensor

from mmfgl.datasets.transforms.fast_colour import (
    LUMA,
    colour_matrix,
    jitter_range,
)
from mmfgl.registry import MODELS


@MODELS.register_module()
class BatchColorAugment(SelfSupDataPreprocessor):
    """Data preprocessor that jitters, greys and blurs before it normalises.

    Takes the colour operations off the CPU: leave ``photometric`` of
    :class:`TwoRegionViews` empty then. The operations and their order are
    those of :class:`TableColorJitter` and :class:`FastGaussianBlur`, drawn
    anew for each image and view. Only training batches are changed. Random
    numbers come from torch's global generator.

    Args:
        brightness: As in :class:`TableColorJitter`.
        contrast: Likewise.
        saturation: Likewise.
        hue: Likewise.
        jitter_prob: Probability of the jitter; one number, or one a view.
        gray_prob: Probability of grey, likewise.
        blur_prob: Probability of the blur, likewise.
        blur_sigma: Least and largest standard deviation of the blur in pixels.
        **kwargs: Arguments of mmpretrain's ``SelfSupDataPreprocessor``; with
            ``bgr_to_rgb`` or neither conversion the inputs are BGR, with
            ``rgb_to_bgr`` RGB.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        jitter_prob: float | Sequence[float] = 0.8,
        gray_prob: float | Sequence[float] = 0.2,
        blur_prob: float | Sequence[float] = 0.2,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.ranges = (
            jitter_range('brightness', brightness),
            jitter_range('contrast', contrast),
            jitter_range('saturation', saturation),
            jitter_range('hue', hue, centre=0.0),
        )
        self.probs = dict(jitter=jitter_prob, gray=gray_prob, blur=blur_prob)
        for name, prob in self.probs.items():
            if not all(0 <= p <= 1 for p in np.atleast_1d(prob)):
                raise ValueError(f'{name}_prob must lie in [0, 1]: {prob}')
        if not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(
                f'blur_sigma needs 0 < least <= largest, got {blur_sigma}'
            )
        self.blur_sigma = tuple(blur_sigma)
        self.rgb_inputs = kwargs.get('rgb_to_bgr', False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Move, augment and normalise a batch.

        Args:
            data: Dict of ``inputs`` (a list of views (B, 3, H, W), or one
                tensor) and ``data_samples``.
            training: Whether to augment.

        Returns:
            Dict of float ``inputs`` and ``data_samples``.
        """
        if training:
            data = self.cast_data(dict(data))
            views = data['inputs']
            if isinstance(views, Tensor):
                data['inputs'] = self.augment(views)
            else:
                data['inputs'] = [
                    self.augment(view, index)
                    for index, view in enumerate(views)
                ]
        return super().forward(data, training)

    @torch.no_grad()
    def augment(self, images: Tensor, view: int = 0) -> Tensor:
        """Augment a batch of one view.

        Args:
            images: (B, 3, H, W) values in [0, 255].
            view: Index of the view.

        Returns:
            (B, 3, H, W) float32 values in [0, 255].
        """
        count = len(images)
        jitter, gray, blur = (
            torch.rand(count).numpy() < self._prob(name, view)
            for name in ('jitter', 'gray', 'blur')
        )
        factors = [
            np.where(jitter, self._uniform(count, limits), neutral)
            for limits, neutral in zip(self.ranges, (1, 1, 1, 0), strict=True)
        ]
        factors[2] = np.where(gray, 0.0, factors[2])
        out = self._jitter(images.float(), *factors)
        sigma = self._uniform(count, self.blur_sigma)
        return self._blur(out, np.where(blur, sigma, 0.0))

    def _prob(self, name: str, view: int) -> float:
        """Probability of an operation in a view."""
        prob = np.atleast_1d(self.probs[name])
        if len(prob) > 1 and view >= len(prob):
            raise ValueError(
                f'{name}_prob has {len(prob)} entries and there is a view '
                f'{view}: give one number, or one a view'
            )
        return prob[view if len(prob) > 1 else 0]

    @staticmethod
    def _uniform(count: int, limits: tuple[float, float]) -> np.ndarray:
        """(count,) uniform numbers."""
        low, high = limits
        return low + (high - low) * torch.rand(count).double().numpy()

    def _jitter(
        self,
        images: Tensor,
        brightness: np.ndarray,
        contrast: np.ndarray,
        saturation: np.ndarray,
        hue: np.ndarray,
    ) -> Tensor:
        """Colours changed by (B,) amounts each."""
        order = [2, 1, 0] if self.rgb_inputs else [0, 1, 2]
        matrix = colour_matrix(saturation, hue)[:, order][:, :, order]
        luma = images.new_tensor(LUMA[order])
        gain, slope = (
            images.new_tensor(factor)[:, None, None, None]
            for factor in (brightness, contrast)
        )
        images = (images * gain).clamp_(0, 255)
        mean = images.mean(dim=(2, 3)) @ luma
        images = images.sub_(mean[:, None, None, None]).mul_(slope)
        images = images.add_(mean[:, None, None, None]).clamp_(0, 255)
        turned = torch.bmm(images.new_tensor(matrix), images.flatten(2))
        return turned.view_as(images).clamp_(0, 255)

    def _blur(self, images: Tensor, sigma: np.ndarray) -> Tensor:
        """Images blurred by (B,) standard deviations; 0 leaves one alone."""
        chosen = np.flatnonzero(sigma > 0)
        if not len(chosen):
            return images
        reach = int(np.ceil(3 * sigma.max()))
        offsets = np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (offsets / sigma[chosen, None]) ** 2)
        kernel /= kernel.sum(axis=1, keepdims=True)  # (B', K)
        picked = torch.from_numpy(chosen).to(images.device)
        part = images[picked]
        weight = part.new_tensor(kernel).repeat_interleave(3, dim=0)
        rows = part.flatten(0, 1)[None]  # (1, 3 B', H, W)
        # one side at a time; a side shorter than the kernel cannot reflect
        for axis, shape in ((2, (1, -1)), (3, (-1, 1))):
            pad = [reach, reach, 0, 0] if axis == 2 else [0, 0, reach, reach]
            rows = F.pad(rows, pad, mode='replicate')
            rows = F.conv2d(
                rows,
                weight.view(len(weight), 1, *shape),
                groups=len(weight),
            )
        images = images.clone()
        images[picked] = rows[0].view_as(part)
        return images
