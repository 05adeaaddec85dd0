"""Two views of an image that hold the same regions.

Shape shorthand: V views (2), N regions.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, Compose

from mmfgl.datasets.encoded_image import EncodedImage, reduction
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    crop_affine,
    invert_affine,
    jitter_boxes,
    map_boxes,
    visible_share,
)
from mmfgl.registry import TASK_UTILS, TRANSFORMS


@TRANSFORMS.register_module()
class TwoRegionViews(BaseTransform):
    """Cut two random views and follow the same N regions into both.

    Each view is a random resized crop, flipped left to right with probability
    ``flip_prob``, then passed through ``photometric`` transforms. Crops are
    drawn again until they share enough of the image. Regions come from the
    proposer, those at least ``min_visible`` visible in both views; where it
    offers too few of them, random boxes in the shared part fill up.

    Required keys: ``img``, ``img_path``. Added keys: ``views`` (V images),
    ``boxes`` and ``jittered`` ((V, N, 4) float32, pixels of each view,
    clipped to it), ``affines`` ((V, 2, 3), image to view). With an object
    proposer also ``objects`` (V float32 arrays (M_v, 4), pixels of each view,
    clipped to it) and ``object_labels`` (V int64 arrays (M_v,)).

    Args:
        proposer: Config of a region proposer.
        view_size: (width, height) of the views in pixels, or one number.
        num_regions: Number N of regions.
        crop_scale: Least and largest share of the image's area in a crop.
        crop_ratio: Least and largest width over height of a crop.
        min_shared: Least share of the smaller crop that lies in the other.
        min_visible: Least share of a region visible in each view.
        min_side: Least side of a proposed region in pixels of each view.
        jitter: Jitter of the boxes as a share of their sides, at most 0.5.
        flip_prob: Probability of a flip.
        photometric: One list of transform configs a view (two lists), or one
            list for both. They may change pixels, never geometry.
        max_tries: Crops drawn before the second view falls back on the first
            crop.
        object_proposer: Config of a region proposer whose boxes serve as
            pseudo ground truth. A view keeps those that are ``min_visible``
            visible in it and, clipped, have sides of ``min_side``; there may
            be none.
        max_objects: Largest number of pseudo objects a view; the proposer's
            first ones are kept.
        min_detail: JPEGs that :class:`LoadUnlabelledImage` left encoded are
            decoded at 1/2, 1/4 or 1/8 of their size as long as every crop
            keeps this many decoded pixels for each pixel of its view, along
            both sides. Boxes and affines stay in pixels of the full image.
    """

    def __init__(
        self,
        proposer: dict,
        view_size: int | tuple[int, int] = 224,
        num_regions: int = 16,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        min_shared: float = 0.4,
        min_visible: float = 0.5,
        min_side: float = 8.0,
        jitter: float = 0.1,
        flip_prob: float = 0.5,
        photometric: Sequence = (),
        max_tries: int = 20,
        object_proposer: dict | None = None,
        max_objects: int = 50,
        min_detail: float = 1.0,
    ) -> None:
        if num_regions < 1:
            raise ValueError(f'num_regions must be >= 1, got {num_regions}')
        if not 0 <= jitter <= 0.5:
            raise ValueError(f'jitter must lie in [0, 0.5], got {jitter}')
        if not 0 < min_shared <= 1:
            raise ValueError(
                f'min_shared must lie in (0, 1], got {min_shared}'
            )
        if max_objects < 1:
            raise ValueError(f'max_objects must be >= 1, got {max_objects}')
        if min_detail <= 0:
            raise ValueError(f'min_detail must be > 0, got {min_detail}')
        self.min_detail = min_detail
        self.proposer = TASK_UTILS.build(proposer)
        self.object_proposer = None
        if object_proposer is not None:
            self.object_proposer = TASK_UTILS.build(object_proposer)
        self.max_objects = max_objects
        if isinstance(view_size, int):
            view_size = (view_size, view_size)
        self.view_size = tuple(view_size)
        self.num_regions = num_regions
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.min_shared = min_shared
        self.min_visible = min_visible
        self.min_side = min_side
        self.jitter = jitter
        self.flip_prob = flip_prob
        self.max_tries = max_tries
        photometric = list(photometric)
        if not photometric or isinstance(photometric[0], dict):
            photometric = [photometric, photometric]
        if len(photometric) != 2:
            raise ValueError(
                'photometric takes one list of transforms, or one list for '
                f'each of the two views, got {len(photometric)} lists'
            )
        self.photometric = [Compose(list(p)) for p in photometric]

    def transform(self, results: dict) -> dict | None:
        """Make the two views; see the class.

        Args:
            results: Dict with ``img``, an (H, W, 3) array or an
                :class:`EncodedImage`.

        Returns:
            The dict with the added keys; ``img`` is dropped. ``None`` if an
            encoded image turns out to be damaged.
        """
        # NumPy's global generator is the one MMEngine seeds in each worker
        rng = np.random.default_rng(np.random.randint(2**31))
        img = results.pop('img')
        img_shape = tuple(img.shape[:2])
        crops = self._crops(img_shape, rng)
        affines = [
            crop_affine(crop, self.view_size, rng.random() < self.flip_prob)
            for crop in crops
        ]
        if (decoded := self._decode(img, crops)) is None:
            return None
        img, to_decoded = decoded
        info = dict(
            img_path=results.get('img_path'), img_shape=img_shape, img=img
        )
        regions = self._regions(info, crops, rng)
        exact = [map_boxes(regions, affine) for affine in affines]
        jittered = [jitter_boxes(boxes, self.jitter, rng) for boxes in exact]
        results['views'] = [
            compose(
                dict(
                    img=warp_view(
                        img, _chain(to_decoded, affine), self.view_size
                    )
                )
            )['img']
            for affine, compose in zip(affines, self.photometric, strict=True)
        ]
        results['affines'] = np.stack(affines)
        for key, boxes in dict(boxes=exact, jittered=jittered).items():
            results[key] = np.stack(
                [clip_boxes(b, self.view_size) for b in boxes]
            )
        if self.object_proposer is not None:
            results.update(self._objects(info, affines, rng))
        return results

    def _decode(
        self, img: np.ndarray | EncodedImage, crops: list[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Pixels, as few as the crops need, and the affine map to them."""
        if isinstance(img, np.ndarray):
            return img, np.eye(2, 3)
        sides = np.stack([crop[2:] - crop[:2] for crop in crops])
        return img.decode(reduction(sides / self.view_size, self.min_detail))

    def _crops(
        self, img_shape: tuple[int, int], rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Two crops, (4,) each in image pixels, that share enough."""
        first = self._crop(img_shape, rng)
        for _ in range(self.max_tries):
            second = self._crop(img_shape, rng)
            shared = max(
                visible_share(first[None], second)[0],
                visible_share(second[None], first)[0],
            )
            if shared >= self.min_shared:
                return [first, second]
        return [first, first.copy()]

    def _crop(
        self, img_shape: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """One random crop, (4,) in image pixels."""
        height, width = img_shape
        area = rng.uniform(*self.crop_scale) * height * width
        root = np.sqrt(np.exp(rng.uniform(*np.log(self.crop_ratio))))
        side = np.sqrt(area)
        sides = np.minimum([side * root, side / root], [width, height])
        corner = rng.uniform(size=2) * ([width, height] - sides)
        return np.concatenate([corner, corner + sides])

    def _regions(
        self, info: dict, crops: list[np.ndarray], rng: np.random.Generator
    ) -> np.ndarray:
        """(N, 4) regions in image pixels, visible in both crops."""
        regions = np.asarray(self.proposer.propose(info, rng), np.float32)
        keep = np.ones(len(regions), dtype=bool)
        sides = regions[:, 2:] - regions[:, :2]
        for crop in crops:
            zoom = np.array(self.view_size) / (crop[2:] - crop[:2])
            keep &= visible_share(regions, crop) >= self.min_visible
            keep &= (sides * zoom).min(axis=1) >= self.min_side
        regions = rng.permutation(regions[keep])[: self.num_regions]
        missing = self.num_regions - len(regions)
        if missing:
            fill = self._fill(crops, missing, rng)
            regions = np.concatenate([regions, fill])
        return regions

    def _objects(
        self,
        info: dict,
        affines: list[np.ndarray],
        rng: np.random.Generator,
    ) -> dict:
        """Pseudo ground truth of each view: ``objects, object_labels``."""
        found, labels = self.object_proposer.propose_labelled(info, rng)
        window = np.array([0, 0, *self.view_size], np.float32)
        result = dict(objects=[], object_labels=[])
        for affine in affines:
            boxes = map_boxes(found, affine)
            seen = visible_share(boxes, window) >= self.min_visible
            boxes = clip_boxes(boxes, self.view_size)
            large = (boxes[:, 2:] - boxes[:, :2] >= self.min_side).all(axis=1)
            keep = np.flatnonzero(seen & large)[: self.max_objects]
            result['objects'].append(boxes[keep])
            result['object_labels'].append(np.asarray(labels, np.int64)[keep])
        return result

    def _fill(
        self,
        crops: list[np.ndarray],
        count: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """(count, 4) random boxes inside the part both crops share."""
        low = np.maximum(crops[0][:2], crops[1][:2])
        high = np.minimum(crops[0][2:], crops[1][2:])
        sides = rng.uniform(0.3, 0.9, size=(count, 2)) * (high - low)
        corner = low + rng.uniform(size=(count, 2)) * (high - low - sides)
        return np.concatenate([corner, corner + sides], 1).astype(np.float32)


def _chain(first: np.ndarray, to_view: np.ndarray) -> np.ndarray:
    """(2, 3) map to a view, seen from the target of ``first``."""
    back = invert_affine(first)
    linear = to_view[:, :2] @ back
    linear[:, 2] += to_view[:, 2]
    return linear


def warp_view(
    img: np.ndarray, affine: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Cut a view out of an image: crop, resize and flip in one warp.

    Args:
        img: (H, W, 3) image.
        affine: (2, 3) map, image to view, in continuous coordinates.
        size: (width, height) of the view.

    Returns:
        (height, width, 3) view.
    """
    # OpenCV's pixel centres lie at integers, ours at integers + 0.5
    centred = affine.copy()
    centred[:, 2] += affine[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(
        img,
        centred,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
