"""Selective search."""

import cv2
import numpy as np
import torch
from torchvision.ops import nms

from mmfgl.datasets.image_reader import read_image
from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.datasets.region_proposers.box_scores import objectness
from mmfgl.registry import TASK_UTILS


@TASK_UTILS.register_module()
class SelectiveSearchRegions(RegionProposer):
    """Regions grown from superpixels by colour, texture, size and fill.

    Selective search (Uijlings et al., IJCV 2013) of OpenCV's contrib
    modules, on the image shrunk to a longer side of ``MAX_SIDE``. OpenCV
    orders the boxes with the C library's generator, which cannot be seeded
    from here, so they are ranked anew: those that differ from their
    surroundings come first, see :func:`.box_scores.objectness`.

    Boxes whose size or shape is hardly an object's are left out: a side below
    ``MIN_SIDE`` of the image's shorter one, an area above ``MAX_AREA`` of its
    area, sides that differ by more than a factor of ``MAX_ASPECT``; and those
    that overlap a better one by more than ``MAX_IOU``.

    About 0.3 s an image with the defaults (``mode='single'`` 0.05 s, with
    fewer boxes): precompute them with
    ``tools/dataset_converters/propose_regions.py``.

    Args:
        mode: ``'single'``, ``'fast'`` or ``'quality'``, the search's own
            strategies: more boxes and more time.
        max_regions: Largest number of boxes.

    Raises:
        ImportError: If OpenCV comes without its contrib modules.
        ValueError: If a setting is out of range.
    """

    MODES = {
        'single': 'switchToSingleStrategy',
        'fast': 'switchToSelectiveSearchFast',
        'quality': 'switchToSelectiveSearchQuality',
    }
    MAX_SIDE = 256
    MIN_SIDE = 0.03
    MAX_AREA = 0.6
    MAX_ASPECT = 4.0
    MAX_IOU = 0.7

    def __init__(self, mode: str = 'fast', max_regions: int = 50) -> None:
        if mode not in self.MODES:
            raise ValueError(f'mode must be in {list(self.MODES)}, got {mode}')
        if max_regions < 1:
            raise ValueError(f'max_regions must be >= 1, got {max_regions}')
        if not hasattr(cv2, 'ximgproc'):
            raise ImportError(
                'selective search needs the contrib modules of OpenCV: pip '
                'install --no-deps --force-reinstall '
                f"'opencv-contrib-python-headless=={cv2.__version__}.*'"
            )
        self.mode = mode
        self.max_regions = max_regions

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Search one image; see :class:`RegionProposer`.

        Raises:
            UnreadableImageError: If ``info`` holds no ``img`` and the file
                ``img_path`` cannot be read.
        """
        small = self._small_image(info)
        boxes = self._search(small)
        scores = objectness(small, boxes)
        boxes = boxes[np.argsort(-scores, kind='stable')].astype(np.float32)
        ranks = torch.arange(len(boxes), 0, -1.0)
        kept = nms(torch.from_numpy(boxes), ranks, self.MAX_IOU).numpy()
        height, width = info['img_shape'][:2]
        zoom = np.array([width, height] * 2) / (small.shape[1::-1] * 2)
        return (boxes[kept[: self.max_regions]] * zoom).astype(np.float32)

    def _small_image(self, info: dict) -> np.ndarray:
        """(h, w, 3) image, its longer side at most ``MAX_SIDE``."""
        if (img := info.get('img')) is None:
            img = read_image(str(info['img_path']))
        scale = self.MAX_SIDE / max(img.shape[:2])
        if scale >= 1:
            return img
        size = [max(1, round(side * scale)) for side in img.shape[1::-1]]
        return cv2.resize(img, size, interpolation=cv2.INTER_AREA)

    def _search(self, img: np.ndarray) -> np.ndarray:
        """(M, 4) plausible boxes in pixels of ``img``, in a fixed order."""
        segmentation = cv2.ximgproc.segmentation
        search = segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(img)
        getattr(search, self.MODES[self.mode])()
        boxes = np.asarray(search.process(), np.float64).reshape(-1, 4)
        sides = boxes[:, 2:]
        least, most = sides.min(axis=1), sides.max(axis=1)
        keep = least >= max(self.MIN_SIDE * min(img.shape[:2]), 1e-6)
        keep &= sides.prod(axis=1) <= self.MAX_AREA * np.prod(img.shape[:2])
        keep &= most <= self.MAX_ASPECT * least
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + sides], axis=1)
        return np.unique(corners[keep], axis=0)
