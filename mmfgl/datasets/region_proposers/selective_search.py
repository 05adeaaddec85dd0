"""Selective search."""

from importlib.metadata import PackageNotFoundError, version

import cv2
import numpy as np

from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.datasets.region_proposers.box_ops import (
    first_distinct,
    plausible_boxes,
)
from mmfgl.datasets.region_proposers.box_scores import objectness
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class SelectiveSearchRegions(RegionProposer):
    """Regions grown from superpixels by colour, texture, size and fill.

    Selective search (Uijlings et al., IJCV 2013) of OpenCV's contrib
    modules, on a reduced image. OpenCV orders the boxes with the C library's
    generator, which cannot be seeded from here, so they are ranked anew:
    those that differ from their surroundings come first, see
    :func:`.box_scores.objectness`.

    About 0.3 s an image with the defaults (``mode='single'`` 0.05 s, with
    fewer boxes): precompute them with
    ``tools/dataset_converters/propose_regions.py``.

    Args:
        mode: ``'single'``, ``'fast'`` or ``'quality'``, the search's own
            strategies: more boxes and more time.
        max_side: The search runs on the image shrunk to this longer side.
        max_regions: Largest number of boxes.
        rank: ``'objectness'`` or ``'random'``.
        max_iou: Boxes that overlap a better one more than this are left out.
        min_side: Least side as a share of the image's shorter side.
        max_area: Largest area as a share of the image's.
        max_aspect: Largest ratio of the longer side to the shorter one.
        seed: Seed of the random rank when no source of randomness is given.

    Raises:
        ImportError: If OpenCV comes without its contrib modules.
        ValueError: If a setting is out of range.
    """

    MODES = {
        'single': 'switchToSingleStrategy',
        'fast': 'switchToSelectiveSearchFast',
        'quality': 'switchToSelectiveSearchQuality',
    }

    def __init__(
        self,
        mode: str = 'fast',
        max_side: int = 256,
        max_regions: int = 50,
        rank: str = 'objectness',
        max_iou: float = 0.7,
        min_side: float = 0.03,
        max_area: float = 0.6,
        max_aspect: float = 4.0,
        seed: int = 0,
    ) -> None:
        if mode not in self.MODES:
            raise ValueError(f'mode must be in {list(self.MODES)}, got {mode}')
        if rank not in ('objectness', 'random'):
            raise ValueError(
                f"rank must be 'objectness' or 'random', got {rank!r}"
            )
        for name, value in dict(
            max_side=max_side, max_regions=max_regions
        ).items():
            if value < 1:
                raise ValueError(f'{name} must be >= 1, got {value}')
        require_ximgproc()
        self.mode = mode
        self.max_side = max_side
        self.max_regions = max_regions
        self.rank = rank
        self.max_iou = max_iou
        self.limits = dict(
            min_side=min_side, max_area=max_area, max_aspect=max_aspect
        )
        self.seed = seed

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Search one image; see :class:`RegionProposer`.

        Args:
            info: Image facts: ``img_shape``, and ``img`` or ``img_path``.
            rng: Source of randomness of the random rank.

        Returns:
            (N, 4) float32 boxes in image pixels, the best first; none on an
            even surface.

        Raises:
            FileNotFoundError: If there is no ``img`` and the file cannot be
                read.
        """
        small = shrink(image_of(info), self.max_side)
        boxes = self._search(small)
        keep = plausible_boxes(boxes, small.shape[:2], **self.limits)
        boxes = boxes[keep]
        if self.rank == 'objectness':
            scores = objectness(small, boxes)
        else:
            rng = rng or np.random.default_rng(self.seed)
            scores = rng.random(len(boxes))
        boxes = boxes[np.argsort(-scores, kind='stable')]
        boxes = boxes[first_distinct(boxes, self.max_iou, self.max_regions)]
        height, width = info['img_shape'][:2]
        zoom = np.array([width, height] * 2) / (small.shape[1::-1] * 2)
        return (boxes * zoom).astype(np.float32)

    def _search(self, img: np.ndarray) -> np.ndarray:
        """(M, 4) float64 boxes in pixels of ``img``, in a fixed order."""
        segmentation = cv2.ximgproc.segmentation
        search = segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(img)
        getattr(search, self.MODES[self.mode])()
        boxes = np.asarray(search.process(), np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return np.unique(boxes, axis=0)


def require_ximgproc() -> None:
    """Check for OpenCV's contrib modules.

    Raises:
        ImportError: If they are missing; says what to install.
    """
    if not hasattr(cv2, 'ximgproc'):
        raise ImportError(
            'selective search needs the contrib modules of OpenCV: pip '
            'install --no-deps --force-reinstall '
            f'opencv-contrib-python-headless=={_opencv_release()}'
        )


def _opencv_release() -> str:
    """Release of the installed OpenCV package, e.g. 4.12.0.88."""
    for name in ('opencv-python', 'opencv-python-headless'):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return f'{cv2.__version__}.*'


def image_of(info: dict) -> np.ndarray:
    """The pixels of an image: ``img`` where at hand, else the file's.

    Args:
        info: Image facts with ``img`` or ``img_path``.

    Returns:
        (h, w, 3) BGR uint8 image.

    Raises:
        FileNotFoundError: If the file cannot be read.
    """
    if info.get('img') is not None:
        return info['img']
    img = cv2.imread(str(info['img_path']), cv2.IMREAD_COLOR)
    if img is None:
        raise FileNotFoundError(
            f'cannot read the image {info["img_path"]!r} to propose regions'
        )
    return img


def shrink(img: np.ndarray, max_side: int) -> np.ndarray:
    """Shrink an image to a longer side of at most ``max_side`` pixels.

    Args:
        img: (H, W, 3) image.
        max_side: Largest side in pixels.

    Returns:
        (h, w, 3) image; the same one if it is small enough.
    """
    height, width = img.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return img
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(img, size, interpolation=cv2.INTER_AREA)
