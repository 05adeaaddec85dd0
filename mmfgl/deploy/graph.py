"""A two-stage detector as one graph of tensor operations.

Shape shorthand: H, W sides of the image, R candidates, C classes, N
detections, A anchors of a level.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torchvision.ops import nms

from mmfgl.models.layers import (
    finite_boxes,
    pool_levels,
    readable_levels,
    vote_neighbours,
)
from mmfgl.models.roi_heads import FGLRoIHead, RoIContext


class DetectorGraph(nn.Module):
    """Plain test of a detector on one image, written to be traced.

    What the image decides (its sides, how many candidates a level gets, how
    many boxes NMS keeps) stays data of the graph, where the detector's own
    ``predict`` branches on it. The layers are the detector's.

    Args:
        detector: Faster R-CNN or FGL Faster R-CNN that
            :func:`mmfgl.deploy.check_supported` lets pass. A copy is kept.
    """

    def __init__(self, detector: TwoStageDetector) -> None:
        super().__init__()
        detector = copy.deepcopy(detector).cpu().float()
        head = detector.roi_head
        for module in head.modules():
            if isinstance(module, RoIAlign):
                module.use_torchvision = True  # known to the exporter
        if not isinstance(head, FGLRoIHead):
            head.bbox_roi_extractor = LevelPooling(head.bbox_roi_extractor)
        self.detector = detector.requires_grad_(False)
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect the objects of one image.

        Args:
            image: (1, 3, H, W) image, resized and normalised, not padded: the
                graph pads it as the detector's data preprocessor does.

        Returns:
            (N, 4) boxes (x1, y1, x2, y2) in pixels of the network's input,
            (N,) scores, highest first, and (N,) int64 labels.
        """
        detector = self.detector
        height, width = image.shape[-2:]
        # traced sides are tensors already
        sides = [torch.as_tensor(side) for side in (height, width)]
        img_shape = torch.stack(sides)  # (2,)
        prepare = detector.data_preprocessor
        divisor = prepare.pad_size_divisor
        padding = (0, -width % divisor, 0, -height % divisor)
        padded = F.pad(image, padding, value=float(prepare.pad_value))
        feats = detector.extract_feat(padded)
        boxes, objectness = self._propose(feats, img_shape)
        boxes, scores = self._classify(feats, boxes, objectness, img_shape)
        return self._detect(boxes, scores, img_shape)

    def _propose(
        self, feats: Sequence[Tensor], img_shape: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(R, 4) candidates of the RPN and their (R,) objectness."""
        rpn, cfg = self.detector.rpn_head, self.detector.test_cfg.rpn
        outputs = list(zip(*rpn(feats), strict=True))
        anchors = rpn.prior_generator.grid_priors(
            [scores.shape[-2:] for scores, _ in outputs], device='cpu'
        )
        found = []
        for (logits, deltas), priors in zip(outputs, anchors, strict=True):
            logits = logits[0].permute(1, 2, 0)
            logits = logits.reshape(-1, rpn.cls_out_channels)  # (A, 1 or 2)
            if rpn.use_sigmoid_cls:
                scores = logits.sigmoid()[:, 0]
            else:
                scores = logits.softmax(-1)[:, 0]
            deltas = deltas[0].permute(1, 2, 0).reshape(-1, 4)
            if cfg.get('nms_pre', -1) > 0:
                scores, rows = scores.sort(descending=True)
                scores, rows = (x[: cfg.nms_pre] for x in (scores, rows))
                deltas, priors = deltas[rows], priors[rows]
            found.append((priors, deltas, scores))
        levels = [
            torch.full_like(scores, level, dtype=torch.long)
            for level, (*_, scores) in enumerate(found)
        ]
        priors, deltas, scores = map(torch.cat, zip(*found, strict=True))
        boxes = clip(rpn.bbox_coder.decode(priors, deltas), img_shape)
        levels = torch.cat(levels)
        if cfg.get('min_bbox_size', -1) >= 0:
            sides = boxes[:, 2:] - boxes[:, :2]
            large = (sides > cfg.min_bbox_size).all(dim=1).nonzero()[:, 0]
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        kept = group_nms(boxes, scores, levels, cfg.nms, img_shape)
        kept = kept[: cfg.max_per_img]
        return finite_boxes(boxes[kept]), scores[kept]

    def _classify(
        self,
        feats: Sequence[Tensor],
        boxes: Tensor,
        objectness: Tensor,
        img_shape: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(R, 4 or 4 C) boxes of the candidates and their (R, C + 1) scores.

        Args:
            feats: Pyramid levels.
            boxes: (R, 4) candidates.
            objectness: (R,) scores of theirs.
            img_shape: (2,) height and width of the image without padding.
        """
        head = self.detector.roi_head
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        context = ()
        if isinstance(head, FGLRoIHead):
            context = ([RoIContext(boxes, img_shape, objectness)],)
        outputs = head._bbox_forward(feats, rois, *context)
        (raw,) = head.bbox_head.predict_by_feat(
            (rois,),
            (outputs['cls_score'],),
            (outputs['bbox_pred'],),
            [dict(img_shape=None)],  # clipped here: it may be of any shape
            rcnn_test_cfg=None,
        )
        return clip(raw.bboxes, img_shape), raw.scores

    def _detect(
        self, boxes: Tensor, scores: Tensor, img_shape: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """NMS of each class, and box voting where the box head has it."""
        cfg, head = self.detector.test_cfg.rcnn, self.detector.roi_head
        above = (scores[:, :-1] > cfg.score_thr).nonzero()  # (pairs, 2)
        rows, labels = above.unbind(dim=1)
        values = scores[rows, labels]
        if boxes.shape[1] == 4:
            corners = boxes[rows]
        else:
            corners = boxes.unflatten(1, (-1, 4))[rows, labels]
        kept = group_nms(corners, values, labels, cfg.nms, img_shape)
        if cfg.max_per_img > 0:
            kept = kept[: cfg.max_per_img]
        found, values, labels = corners[kept], values[kept], labels[kept]
        voting_iou = getattr(head.bbox_head, 'voting_iou', None)
        if voting_iou is not None:
            found = vote_neighbours(found, labels, boxes, scores, voting_iou)
        return found, values, labels


class LevelPooling(nn.Module):
    """mmdet's RoI extractor, without branches on what a level gets.

    Args:
        extractor: The extractor whose RoI layers and levels are taken.
    """

    def __init__(self, extractor: SingleRoIExtractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.num_inputs = extractor.num_inputs

    def forward(self, feats: Sequence[Tensor], rois: Tensor) -> Tensor:
        """Levels and (R, 5) RoIs -> (R, C, S, S) features."""
        own = self.extractor.map_roi_levels(rois, len(feats))
        layers = self.extractor.roi_layers
        return pool_levels(layers, readable_levels(feats), rois, own)


def clip(boxes: Tensor, img_shape: Tensor) -> Tensor:
    """(R, 4 K) boxes inside an image of a (2,) height and width."""
    limits = img_shape.flip(0).repeat(2).to(boxes)
    corners = boxes.reshape(-1, 4).clamp(min=0)
    return torch.minimum(corners, limits).reshape(boxes.shape)


def group_nms(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    cfg: dict,
    img_shape: Tensor,
) -> Tensor:
    """NMS among the boxes of a group, as :func:`mmcv.ops.batched_nms`.

    Args:
        boxes: (R, 4) boxes inside the image.
        scores: (R,) scores.
        groups: (R,) int64 levels or classes.
        cfg: ``dict(type='nms', iou_threshold=)``.
        img_shape: (2,) height and width.

    Returns:
        Rows of the boxes kept, highest score first.
    """
    # moved apart by more than the image, no two groups overlap
    offsets = groups.to(boxes) * (img_shape.amax(dim=0) + 1).to(boxes)
    return nms(boxes + offsets[:, None], scores, cfg['iou_threshold'])
