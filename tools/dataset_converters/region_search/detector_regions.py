"""Regions that a trained detector finds, for a further round of pretraining.

Shape shorthand: K boxes of the detector, S of the region file.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
from mmcv import rescale_size
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.structures import InstanceData
from torch import nn
from torchvision.ops import box_iou, nms

from mmfgl.datasets.region_proposers import FileRegions, RegionProposer
from mmfgl.engine.hooks import LoadReport
from mmfgl.registry import MODELS
from mmfgl.utils.audit.uses import parts_of
from mmfgl.utils.config_checks import type_name
from mmfgl.utils.weights import check_opened_weights

MAX_IOU = 0.5  # of two boxes of the detector
SEARCH_IOU = 0.7  # of a box of the detector and one of the search


class DetectorRegions(RegionProposer):
    """The best boxes of a detector, whatever their class.

    Of a pretraining (:class:`ReToD`) these are the proposals of its RPN:
    its pseudo-classes do not tell objects from background; of a detector the
    detections. Images are fitted into the size of the training's views, or
    resized as the detector's test pipeline does.

    Args:
        config: Config file of a ReToD or of a detector.
        checkpoint: Checkpoint of it.
        max_regions: Largest number of boxes, those of ``join`` besides.
        score_thr: Least score.
        flip: Look at the mirrored image; boxes are those of the image. The
            agreement of both views tells the quality without labels.
        snap: A region file: a box that overlaps one of it by 0.7 is replaced
            by that one. The detector finds, a search fits edges.
        join: A region file whose boxes stand between the detector's, in
            turn, but for those that overlap a better one by 0.7.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The config does not tell the size of images.
        RuntimeError: The checkpoint does not fill the detector.
    """

    def __init__(
        self,
        config: str,
        checkpoint: str,
        max_regions: int = 15,
        score_thr: float = 0.05,
        flip: bool = False,
        snap: str | None = None,
        join: str | None = None,
    ) -> None:
        cfg = Config.fromfile(config)
        self.is_pretraining = type_name(cfg.model) == 'ReToD'
        self.scope = cfg.get('default_scope', 'mmdet')
        if self.is_pretraining:
            self.scope = 'mmdet'
        self.scale, self.keep_ratio = _scale(cfg, config)
        check_opened_weights(cfg.model)
        model = cfg.model.detector if self.is_pretraining else cfg.model
        with DefaultScope.overwrite_default_scope(self.scope):
            self.model = MODELS.build(model)
        self._load(checkpoint)
        self.max_regions = max_regions
        self.score_thr = score_thr
        self.flip = flip
        self.snap = snap and FileRegions(snap)
        self.join = join and FileRegions(join)

    def _load(self, checkpoint: str) -> None:
        """Fill what is used of the detector, whole or not at all."""
        state = CheckpointLoader.load_checkpoint(checkpoint, 'cpu')
        state = state.get('state_dict', state)
        used = [name for name, _ in self.model.named_children()]
        used.remove('data_preprocessor')
        if self.is_pretraining:
            used.remove('roi_head')
        report = LoadReport(self.model.state_dict(), state, used)
        report.check(checkpoint, state)
        starts = tuple(f'{name}.' for name in used)
        own = {k: v for k, v in state.items() if k.startswith(starts)}
        self.model.load_state_dict(own, strict=False)
        if torch.cuda.is_available():
            self.model.cuda()
        self.model.eval()

    def propose(
        self, info: dict, rng: np.random.Generator | None = None
    ) -> np.ndarray:
        """Boxes of one image; see :class:`RegionProposer`.

        ``info`` must hold ``img``, which may be smaller than ``img_shape``.
        """
        found = self.detect(info['img'])
        kept = nms(found.bboxes, found.scores, MAX_IOU)
        kept = kept[found.scores[kept] >= self.score_thr]
        boxes = found.bboxes[kept[: self.max_regions]].cpu()
        zoom = np.divide(info['img_shape'], info['img'].shape[:2])
        boxes = boxes * boxes.new_tensor([*zoom[::-1], *zoom[::-1]])
        if self.snap is not None:
            boxes = self._snapped(boxes, info)
        if self.join is not None:
            boxes = self._joined(boxes, info)
        return boxes.numpy().astype(np.float32)

    @torch.no_grad()
    def detect(self, img: np.ndarray) -> InstanceData:
        """Boxes in pixels of an (H, W, 3) BGR image, and their scores."""
        height, width = img.shape[:2]
        size = self.scale
        if self.keep_ratio:
            size = rescale_size((width, height), size)
            size = max(size[0], 1), max(size[1], 1)
        small = cv2.resize(img, size, interpolation=cv2.INTER_LINEAR)
        if self.flip:
            small = small[:, ::-1]
        small = np.ascontiguousarray(small.transpose(2, 0, 1))
        zoom = size[0] / width, size[1] / height
        sample = DetDataSample(
            metainfo=dict(
                ori_shape=(height, width),
                img_shape=size[::-1],
                scale_factor=zoom,
            )
        )
        data = dict(inputs=[torch.from_numpy(small)], data_samples=[sample])
        with DefaultScope.overwrite_default_scope(self.scope):
            data = self.model.data_preprocessor(data, False)
            found = self._run(**data)
        boxes = found.bboxes.float()
        if self.flip:
            boxes = boxes[:, [2, 1, 0, 3]] * boxes.new_tensor([-1, 1, -1, 1])
            boxes = boxes + boxes.new_tensor([size[0], 0, size[0], 0])
        boxes = boxes / boxes.new_tensor([*zoom, *zoom])
        limits = boxes.new_tensor([width, height, width, height])
        boxes = boxes.clamp(min=0).minimum(limits)
        wide = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return InstanceData(bboxes=boxes, scores=found.scores.float())[wide]

    def _run(
        self, inputs: torch.Tensor, data_samples: list[DetDataSample]
    ) -> InstanceData:
        """Boxes and scores in pixels of the network's input."""
        model: nn.Module = self.model
        if not self.is_pretraining:
            (found,) = model.predict(inputs, data_samples, rescale=False)
            return found.pred_instances
        (found,) = model.rpn_head.predict(
            model.extract_feat(inputs), data_samples, rescale=False
        )
        return found

    def _snapped(self, boxes: torch.Tensor, info: dict) -> torch.Tensor:
        """(K, 4) boxes, some of them the search's."""
        search = torch.from_numpy(self.snap.propose(info))
        if not len(search) or not len(boxes):
            return boxes
        ious, best = box_iou(boxes, search).max(dim=1)
        near = (ious >= SEARCH_IOU).unsqueeze(1)
        boxes = torch.where(near, search[best], boxes)
        # two may have become one
        ranks = torch.arange(len(boxes), 0, -1.0)
        return boxes[nms(boxes, ranks, MAX_IOU)]

    def _joined(self, boxes: torch.Tensor, info: dict) -> torch.Tensor:
        """(K + S, 4) boxes of both, in turn, less those that overlap."""
        search = torch.from_numpy(self.join.propose(info))
        turns = [torch.arange(len(boxes)), torch.arange(len(search)) + 0.5]
        order = torch.cat(turns).argsort()
        boxes = torch.cat([boxes, search])[order]
        ranks = torch.arange(len(boxes), 0, -1.0)
        return boxes[nms(boxes, ranks, SEARCH_IOU)]


def _scale(cfg: Config, path: str) -> tuple[tuple[int, int], bool]:
    """(width, height) that images are resized to, and whether fitted into it.

    Raises:
        ValueError: The config does not tell.
    """
    for step in _steps(cfg, 'test_dataloader'):
        if type_name(step) == 'Resize' and step.get('scale'):
            scale = step['scale']
            scale = (scale, scale) if isinstance(scale, int) else scale
            return tuple(scale), step.get('keep_ratio', False)
    for step in _steps(cfg, 'train_dataloader'):
        if type_name(step) == 'RegionViews':
            return (step.get('view_size', 224),) * 2, True
    raise ValueError(
        f'{path} does not tell the size of images: it has neither '
        'Resize(scale=...) in its test pipeline nor RegionViews in its train '
        'pipeline'
    )


def _steps(cfg: Config, loader: str) -> Iterator[dict]:
    """Parts of the data set of a loader, its transforms among them."""
    dataset = (cfg.get(loader) or {}).get('dataset') or {}
    return parts_of(dict(dataset))
