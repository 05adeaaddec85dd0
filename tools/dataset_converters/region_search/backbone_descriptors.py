"""Descriptors of regions by a trained backbone, for pseudo-labels.

Shape shorthand: N regions, D numbers a region.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, load_state_dict
from torch import Tensor, nn

from mmfgl.datasets.image_reader import decode_reduced, read_bytes
from mmfgl.registry import MODELS
from region_search.cache import ImageProposals

MARGIN = 1.15  # side of the square around a region, over its longer side
SIDE = 64  # of the resized square in pixels
NUM_COMPONENTS = 64  # D, at most


class BackboneDescriber:
    """Mean features of a backbone's last two levels, inside a region.

    Args:
        config: Config file of a detector or of ReToD, whose backbone and
            normalisation are used.
        weights: Checkpoint with the backbone under ``backbone.``.

    Raises:
        ValueError: If the checkpoint does not fill the backbone.
    """

    def __init__(self, config: str, weights: str) -> None:
        cfg = Config.fromfile(config)
        init_default_scope(cfg.get('default_scope', 'mmengine'))
        model, backbone = cfg.model, cfg.model.get('backbone')
        if 'detector' in model:
            model = model.detector
            # a detector's config names mmdet's parts without a scope
            backbone = {'_scope_': 'mmdet', **model.backbone}
        self.backbone: nn.Module = MODELS.build(backbone)
        self.backbone.eval()  # mmpretrain's backbones return None here
        state = CheckpointLoader.load_checkpoint(weights, map_location='cpu')
        state = state.get('state_dict', state)
        own = {
            key.removeprefix('backbone.'): value
            for key, value in state.items()
            if key.startswith('backbone.')
        }
        missing = set(self.backbone.state_dict()) - set(own)
        if missing:
            raise ValueError(
                f'{weights} lacks {len(missing)} tensors of the backbone of '
                f'{config}, the first is backbone.{min(missing)}: give the '
                'checkpoint that the pretraining starts from'
            )
        load_state_dict(self.backbone, own)
        preprocess = model.data_preprocessor
        self.mean = torch.tensor(preprocess.mean).view(3, 1, 1)
        self.std = torch.tensor(preprocess.std).view(3, 1, 1)
        self.to_rgb = preprocess.get('bgr_to_rgb', False)

    @torch.no_grad()
    def __call__(self, img: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(N, D) float32 features of (N, 4) boxes in pixels of a BGR image."""
        levels = self.backbone(self._crops(img, boxes))[-2:]
        means = [level.mean(dim=(2, 3)) for level in levels]
        return torch.cat(means, dim=1).numpy()

    def _crops(self, img: np.ndarray, boxes: np.ndarray) -> Tensor:
        """(N, 3, SIDE, SIDE) normalised squares around regions."""
        height, width = img.shape[:2]
        crops = []
        for x1, y1, x2, y2 in boxes:
            half = max(x2 - x1, y2 - y1) * MARGIN / 2
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            left, top = int(max(x - half, 0)), int(max(y - half, 0))
            right = max(int(min(x + half, width)), left + 1)
            bottom = max(int(min(y + half, height)), top + 1)
            crop = img[top:bottom, left:right]
            crops.append(
                cv2.resize(crop, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            )
        batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
        if self.to_rgb:
            batch = batch.flip(1)
        return (batch - self.mean) / self.std


def describe_with_backbone(
    paths: Sequence[str],
    found: Sequence[ImageProposals],
    describe: BackboneDescriber,
) -> Iterator[None]:
    """Replace the descriptors of all images by features, in place.

    Features are standardised over all regions, reduced by PCA and given
    length 1, so that k-means compares directions. Yields after each image, to
    show the progress.
    """
    from sklearn.decomposition import PCA

    rows = []
    for path, regions in zip(paths, found, strict=True):
        if len(regions.boxes):
            img, shape = decode_reduced(read_bytes(path), path)
            zoom = np.array(img.shape[1::-1] * 2) / (shape[::-1] * 2)
            rows.append(describe(img, regions.boxes * zoom))
        yield
    features = np.concatenate(rows)
    features = (features - features.mean(0)) / (features.std(0) + 1e-6)
    count = min(NUM_COMPONENTS, *features.shape)
    features = PCA(count, random_state=0).fit_transform(features)
    features /= np.linalg.norm(features, axis=1, keepdims=True) + 1e-9
    start = 0
    for regions in found:
        stop = start + len(regions.boxes)
        regions.descriptors = features[start:stop].astype(np.float32)
        start = stop
