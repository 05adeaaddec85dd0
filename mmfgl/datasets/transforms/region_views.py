"""Views of an image that hold the same regions.

Shape shorthand: V views (1 or 2), N regions.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, Compose

from mmfgl.datasets.image_reader import EncodedImage
from mmfgl.datasets.transforms.loading import reduction
from mmfgl.datasets.transforms.view_maps import (
    clip_boxes,
    crop_affine,
    map_boxes,
    visible_share,
)
from mmfgl.registry import TASK_UTILS, TRANSFORMS

MAX_WARPED = 2**15 - 2  # longest side that OpenCV warps


@TRANSFORMS.register_module()
class RegionViews(BaseTransform):
    """Cut one or two random views and follow the same N regions into them.

    Each view is a random resized crop, flipped left to right with probability
    ``flip_prob``, then passed through ``photometric`` transforms. The second
    crop is drawn again until the smaller of the two lies in the other by
    ``MIN_SHARED``; after ``MAX_TRIES`` it is the first crop. A box is kept
    if ``MIN_VISIBLE`` of its area is inside the view and what is left of it
    there has sides of ``MIN_SIDE`` pixels. A region must be kept in all
    views; where the proposer offers fewer than N such regions, random boxes
    in the part of the image that the views share fill up.

    Required keys: ``img`` ((H, W, 3) array or :class:`EncodedImage`),
    ``img_path``. Added keys: ``views`` (V images), ``boxes`` ((V, N, 4)
    float32, pixels of each view, clipped to it), ``affines`` ((V, 2, 3),
    image to view), ``rows`` ((N,) int64, the regions' rows in their region
    file, -1 for those of none). With an object proposer also ``objects`` (V
    float32 arrays (M_v, 4), pixels of each view, clipped to it),
    ``object_labels`` and ``object_rows`` (V int64 arrays (M_v,) each); M_v
    may be 0. ``img`` becomes the views, as in MMPretrain's ``MultiView``.

    Args:
        proposer: Config of a region proposer; not needed for 0 regions.
        num_views: Number V of views, 1 or 2.
        view_size: (width, height) of the views in pixels, or one number.
        num_regions: Number N of regions, 0 if only objects are wanted.
        crop_scale: Least and largest share of the image's area in a crop.
        flip_prob: Probability of a flip.
        photometric: One list of transform configs a view (V lists), or one
            list for all. They may change pixels, never geometry.
        object_proposer: Config of a region proposer whose boxes serve as
            pseudo ground truth.
        max_objects: Largest number of pseudo objects a view; the proposer's
            first ones are kept.

    Raises:
        ValueError: If a setting is out of range.
    """

    CROP_RATIO = (3 / 4, 4 / 3)  # width over height
    MIN_SHARED = 0.4
    MAX_TRIES = 20
    MIN_VISIBLE = 0.5
    MIN_SIDE = 8.0

    def __init__(
        self,
        proposer: dict | None = None,
        num_views: int = 2,
        view_size: int | tuple[int, int] = 224,
        num_regions: int = 16,
        crop_scale: tuple[float, float] = (0.3, 1.0),
        flip_prob: float = 0.5,
        photometric: Sequence = (),
        object_proposer: dict | None = None,
        max_objects: int = 50,
    ) -> None:
        if num_views not in (1, 2):
            raise ValueError(f'num_views must be 1 or 2, got {num_views}')
        if num_regions < 0:
            raise ValueError(f'num_regions must be >= 0, got {num_regions}')
        if num_regions and proposer is None:
            raise ValueError(
                f'num_regions={num_regions} needs a proposer: set one, or '
                'num_regions=0 if only objects are wanted'
            )
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(
                f'crop_scale needs 0 < least <= largest <= 1, got {crop_scale}'
            )
        if max_objects < 1:
            raise ValueError(f'max_objects must be >= 1, got {max_objects}')
        self.proposer = proposer and TASK_UTILS.build(proposer)
        self.object_proposer = object_proposer and TASK_UTILS.build(
            object_proposer
        )
        self.proposers = list(
            filter(None, (self.proposer, self.object_proposer))
        )
        sides = (view_size,) * 2 if isinstance(view_size, int) else view_size
        self.view_size = tuple(sides)
        self.num_views = num_views
        self.num_regions = num_regions
        self.crop_scale = crop_scale
        self.flip_prob = flip_prob
        self.max_objects = max_objects
        photometric = list(photometric)
        if not photometric or isinstance(photometric[0], dict):
            photometric = [photometric] * num_views
        if len(photometric) != num_views:
            raise ValueError(
                'photometric takes one list of transforms, or one for each '
                f'of the {num_views} views, got {len(photometric)} lists'
            )
        self.photometric = [Compose(list(p)) for p in photometric]

    def transform(self, results: dict) -> dict:
        """Make the views; see the class.

        Raises:
            UnreadableImageError: An encoded image is damaged.
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
        to_full = np.eye(3)  # from decoded pixels
        if isinstance(img, EncodedImage):
            zooms = np.stack([c[2:] - c[:2] for c in crops]) / self.view_size
            img, to_full[:2] = img.decode(reduction(zooms))
        path = results.get('img_path')
        info = dict(img_path=path, img_shape=img_shape, img=img)
        results['boxes'], results['rows'] = self._regions(
            info, crops, affines, rng
        )
        results['affines'] = np.stack(affines)
        if self.object_proposer is not None:
            results.update(self._objects(info, affines, rng))
        results['views'] = []
        for affine, compose in zip(affines, self.photometric, strict=True):
            view = warp_view(img, affine @ to_full, self.view_size)
            results['views'].append(compose(dict(img=view))['img'])
        results['img'] = results['views']
        return results

    def _crops(
        self, img_shape: tuple[int, int], rng: np.random.Generator
    ) -> list[np.ndarray]:
        """V crops, (4,) each in image pixels, that share enough."""
        first = self._crop(img_shape, rng)
        if self.num_views == 1:
            return [first]
        for _ in range(self.MAX_TRIES):
            second = self._crop(img_shape, rng)
            shared = max(
                visible_share(first[None], second)[0],
                visible_share(second[None], first)[0],
            )
            if shared >= self.MIN_SHARED:
                return [first, second]
        return [first, first.copy()]

    def _crop(
        self, img_shape: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """One random crop, (4,) in image pixels."""
        height, width = img_shape
        side = np.sqrt(rng.uniform(*self.crop_scale) * height * width)
        root = np.sqrt(np.exp(rng.uniform(*np.log(self.CROP_RATIO))))
        sides = np.minimum([side * root, side / root], [width, height])
        corner = rng.uniform(size=2) * ([width, height] - sides)
        return np.concatenate([corner, corner + sides])

    def _in_view(
        self, boxes: np.ndarray, affine: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, 4) boxes clipped to a view and (N,) bool, which are kept."""
        mapped = map_boxes(boxes, affine)
        clipped = clip_boxes(mapped, self.view_size)
        window = np.array([0, 0, *self.view_size], np.float32)
        keep = visible_share(mapped, window) >= self.MIN_VISIBLE
        sides = clipped[:, 2:] - clipped[:, :2]
        return clipped, keep & (sides >= self.MIN_SIDE).all(axis=1)

    def _regions(
        self,
        info: dict,
        crops: list[np.ndarray],
        affines: list[np.ndarray],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(V, N, 4) float32 regions in pixels of each view, (N,) rows."""
        if self.num_regions == 0:
            boxes = np.zeros((self.num_views, 0, 4), np.float32)
            return boxes, np.zeros(0, np.int64)
        found, _, file_rows = self.proposer.propose_rows(info, rng)
        found = np.asarray(found, np.float32)
        seen = [self._in_view(found, affine) for affine in affines]
        rows = np.flatnonzero(np.all([keep for _, keep in seen], axis=0))
        rows = rng.permutation(rows)[: self.num_regions]
        found = np.stack([boxes[rows] for boxes, _ in seen])
        # random boxes inside the part of the image that all crops share
        low = np.max([crop[:2] for crop in crops], axis=0)
        high = np.min([crop[2:] for crop in crops], axis=0)
        shape = self.num_regions - len(rows), 2
        sides = rng.uniform(0.3, 0.9, size=shape) * (high - low)
        corner = low + rng.uniform(size=shape) * (high - low - sides)
        fill = np.concatenate([corner, corner + sides], axis=1)
        filled = np.stack([self._in_view(fill, a)[0] for a in affines])
        none = np.full(len(fill), -1, np.int64)
        return (
            np.concatenate([found, filled], axis=1),
            np.concatenate([file_rows[rows], none]),
        )

    def _objects(
        self, info: dict, affines: list[np.ndarray], rng: np.random.Generator
    ) -> dict:
        """Pseudo ground truth of each view: ``object*`` of the class."""
        found, *facts = self.object_proposer.propose_rows(info, rng)
        result = dict(objects=[], object_labels=[], object_rows=[])
        for affine in affines:
            boxes, keep = self._in_view(found, affine)
            rows = np.flatnonzero(keep)[: self.max_objects]
            result['objects'].append(boxes[rows])
            for key, values in zip(('labels', 'rows'), facts, strict=True):
                values = np.asarray(values, np.int64)[rows]
                result[f'object_{key}'].append(values)
        return result


def warp_view(
    img: np.ndarray, affine: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Cut a view out of an (H, W, 3) image: crop, resize, flip in one warp.

    ``affine`` is the (2, 3) map from image to view in continuous coordinates,
    ``size`` the view's (width, height).
    """
    sides = np.array(img.shape[1::-1])
    if sides.max() > MAX_WARPED:
        factor = -(-sides // (MAX_WARPED // 2))  # whole blocks, and no alias
        small = tuple((-(-sides // factor)).tolist())
        img = cv2.resize(img, small, interpolation=cv2.INTER_AREA)
        affine = np.hstack([affine[:, :2] * (sides / small), affine[:, 2:]])
    # OpenCV's pixel centres lie at integers, ours at integers + 0.5
    centred = affine.copy()
    centred[:, 2] += affine[:, :2] @ [0.5, 0.5] - 0.5
    return cv2.warpAffine(img, centred, size, borderMode=cv2.BORDER_REPLICATE)
