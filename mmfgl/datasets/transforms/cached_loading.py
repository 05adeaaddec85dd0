"""Images decoded once and kept in memory."""

import numpy as np

from mmfgl.datasets.transforms.loading import LoadUnlabelledImage
from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadCachedImage(LoadUnlabelledImage):
    """Load an image; the next time, take it from memory.

    For small data sets, which a short training run reads many times. Every
    worker process of a data loader has a cache of its own, so ``max_bytes``
    holds for each. An unreadable file gives ``None``, as in the parent.

    Args:
        max_bytes: Images that would make the cache larger are not kept.
        lazy: Not used: images that are decoded once are decoded whole.
            Accepted so that a config may change the ``type`` alone.
        **kwargs: Arguments of :class:`mmcv.transforms.LoadImageFromFile`.
    """

    def __init__(
        self, max_bytes: int = 512 * 2**20, lazy: bool = False, **kwargs
    ) -> None:
        super().__init__(lazy=False, **kwargs)
        self.max_bytes = max_bytes
        self._images: dict[str, np.ndarray] = {}
        self._bytes = 0

    def transform(self, results: dict) -> dict | None:
        """Load one image.

        Args:
            results: Needs ``img_path``.

        Returns:
            ``results`` with ``img`` ((H, W, 3) BGR uint8, safe to change),
            ``img_shape`` and ``ori_shape``, or ``None`` if the file cannot
            be decoded.
        """
        path = results['img_path']
        if path in self._images:
            img = self._images[path].copy()
            results['img'] = img
            results['img_shape'] = results['ori_shape'] = img.shape[:2]
            return results
        results = super().transform(results)
        if results is not None:
            img = results['img']
            if self._bytes + img.nbytes <= self.max_bytes:
                self._images[path] = img.copy()
                self._bytes += img.nbytes
        return results
