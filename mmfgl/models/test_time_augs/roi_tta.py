"""RoI multi-scale test-time augmentation.

Shape shorthand: B images, V views, R RoIs of one image, C classes, K boxes an
RoI, N detections.
"""

import inspect
from dataclasses import replace
from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import (
    GridRoIHead,
    MultiInstanceRoIHead,
    StandardRoIHead,
)
from mmdet.structures.bbox import scale_boxes
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.layers import vote_neighbours
from mmfgl.models.test_time_augs.fusion import Predictions, fuse
from mmfgl.models.test_time_augs.masks import predict_masks
from mmfgl.models.test_time_augs.proposals import propose
from mmfgl.models.test_time_augs.scoring import score_rois
from mmfgl.models.test_time_augs.views import View, ViewBatch, arrange_views
from mmfgl.registry import MODELS

# Their boxes are more than one decoding an RoI followed by NMS.
_OWN_PREDICTION = (GridRoIHead, MultiInstanceRoIHead)


@MODELS.register_module()
class RoITTAModel(BaseTTAModel):
    """Score the same RoIs in every view, fuse, then run one NMS.

    Works with any two-stage detector of mmdet whose RoI head is a
    ``StandardRoIHead``, boxes class-agnostic or per class, with or without
    masks; driven by an ordinary ``tta_pipeline``: ``TestTimeAug`` over
    resizes, flips and parts of the image (:class:`ImageSlice`).
    ``DetTTAModel`` of mmdet instead pools the final boxes of all views into
    one more NMS, so a box need not be seen in more than one view.

    One list of proposals is mapped into every view; each view gives
    (R, C + 1) probabilities and (R, 4 K) boxes of the same RoIs; both are
    averaged in the frame of the reference view (the median scale, unflipped,
    the whole image) and filtered as in ``BBoxHead``, and the boxes that are
    left move to the mean of their neighbours. With one view the result is
    that of plain prediction, bit for bit. The order of the views does not
    matter.

    An RoI that a slice shows whole, and larger than any view of the whole
    image does, is scored in the slice that shows it largest and nowhere else.

    The pyramids of all views are held at the same time.

    Args:
        module: The detector or its config.
        mode: ``'views'`` runs the backbone on every view; ``'pyramid'`` runs
            it on the reference view alone and reads RoIs from their own
            pyramid level and the second nearest by size, weighted by how near
            (other views are not read). ``'pyramid'`` needs a head whose
            ``predict_bbox`` takes ``level_shift``, as ``FGLRoIHead``.
        box_fusion: How the boxes of an RoI are fused: ``'score_weighted'``
            mean, or ``'wbf'`` (weighted boxes fusion, arXiv 1910.13302): the
            same mean over the views that agree with the best supported box
            (IoU of at least 0.55), so that a stray view is left out.
        voting_iou: A box that NMS keeps moves to the mean of all boxes of its
            class with at least this IoU, weighted by their scores (box
            voting, arXiv 1505.01749). ``None`` leaves it where it is. With a
            single view the detector's own setting holds.
        rescore_thr: RoIs whose best class probability in the reference view
            is below this keep it and are not scored again, which saves most
            of the RoI head's time; those that a slice scores are. Heads whose
            RoIs read each other then see the remaining ones only. 0 scores
            every RoI everywhere.

    Raises:
        TypeError: If the detector is not of the kind above.
        ValueError: If an option is out of range or does not fit the detector.
    """

    def __init__(
        self,
        module: dict | nn.Module,
        mode: str = 'views',
        box_fusion: str = 'score_weighted',
        voting_iou: float | None = 0.75,
        rescore_thr: float = 0.1,
    ) -> None:
        if mode not in ('views', 'pyramid'):
            raise ValueError(
                f"mode must be 'views' or 'pyramid', got {mode!r}"
            )
        if box_fusion not in ('score_weighted', 'wbf'):
            raise ValueError(
                "box_fusion must be 'score_weighted' or 'wbf', got "
                f'{box_fusion!r}'
            )
        if voting_iou is not None and not 0 < voting_iou <= 1:
            raise ValueError(
                f'voting_iou must lie in (0, 1] or be None, got {voting_iou}'
            )
        if not 0 <= rescore_thr < 1:
            raise ValueError(
                f'rescore_thr must lie in [0, 1), got {rescore_thr}'
            )
        super().__init__(module)
        self.mode = mode
        self.box_fusion = box_fusion
        self.voting_iou = voting_iou
        self.rescore_thr = rescore_thr
        self._check_module()

    def _check_module(self) -> None:
        """Refuse detectors that RoITTAModel would silently misread."""
        head = getattr(self.module, 'roi_head', None)
        name = type(head or self.module).__name__
        if (
            not isinstance(head, StandardRoIHead)
            or isinstance(head, _OWN_PREDICTION)
            or not head.with_bbox
            or type(head).predict is not StandardRoIHead.predict
        ):
            raise TypeError(
                'RoITTAModel needs a two-stage detector with a '
                f'StandardRoIHead that has a bbox_head, got {name}. For other '
                "detectors use mmdet's DetTTAModel."
            )
        known = inspect.signature(type(head).predict_bbox).parameters
        if self.mode == 'pyramid' and 'level_shift' not in known:
            raise ValueError(
                "mode='pyramid' needs a RoI head whose predict_bbox takes "
                f'level_shift, such as FGLRoIHead, got {name}; use '
                "mode='views'"
            )

    def merge_preds(self, data_samples_list: list) -> list:
        """Raises; this model never has predictions of one view."""
        raise NotImplementedError(
            'RoITTAModel fuses RoIs before there are predictions: call '
            "test_step. To merge finished predictions use mmdet's DetTTAModel."
        )

    @torch.no_grad()
    def test_step(self, data: dict[str, Any]) -> list:
        """Detect the objects of a batch of images in several views.

        Args:
            data: ``inputs`` and ``data_samples``, lists over V views of lists
                over B images, as ``TestTimeAug`` makes them.

        Returns:
            B ``DetDataSample``, those of the reference view, with
            ``pred_instances``: ``bboxes`` (N, 4) in original pixels,
            ``scores`` (N,), ``labels`` (N,) and, with a mask branch,
            ``masks`` (N, H, W).
        """
        arranged = arrange_views(data)
        if self.mode == 'pyramid':
            batch = self._extract(*arranged[0])
            batches = [batch, replace(batch, level_shift='nearest')]
        elif len(arranged) == 1:
            return self.module.test_step(arranged[0][1])
        else:
            batches = [self._extract(*of_rank) for of_rank in arranged]
        roi_head = self.module.roi_head
        views = batches[:1] if self.mode == 'pyramid' else batches
        predictions = score_rois(
            roi_head, batches, propose(self.module, views), self.rescore_thr
        )
        samples, metas = batches[0].samples, batches[0].metas
        results = [
            self._detect(of_image, meta)
            for of_image, meta in zip(predictions, metas, strict=True)
        ]
        if roi_head.with_mask:
            results = predict_masks(roi_head, views, results)
        return self.module.add_pred_to_datasample(samples, results)

    def _extract(self, views: list[View], data: dict[str, list]) -> ViewBatch:
        """Preprocess one view of each image and extract its features."""
        data = self.module.data_preprocessor(data, False)
        feats = self.module.extract_feat(data['inputs'])
        return ViewBatch(views, data['data_samples'], feats)

    def _detect(
        self, predictions: Predictions, meta: dict[str, Any]
    ) -> InstanceData:
        """Fuse and filter as ``BBoxHead`` does after decoding."""
        head = self.module.roi_head
        boxes, scores = fuse(predictions, self.box_fusion)
        # the mask branch rescales boxes and masks together, after NMS
        if not head.with_mask:
            inverse = [1 / factor for factor in meta['scale_factor']]
            boxes = scale_boxes(boxes, inverse)
        cfg = head.test_cfg
        detections, labels = multiclass_nms(
            boxes, scores, cfg.score_thr, cfg.nms, cfg.max_per_img
        )
        found = detections[:, :4]
        if self.voting_iou is not None:
            found = vote_neighbours(
                found, labels, boxes, scores, self.voting_iou
            )
        return InstanceData(
            bboxes=found, scores=detections[:, 4], labels=labels
        )
