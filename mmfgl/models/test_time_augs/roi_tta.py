"""RoI multi-scale test-time augmentation.

Shape shorthand: B images, V views, R RoIs of one image, C classes, K boxes an
RoI.
"""

from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import (
    GridRoIHead,
    MultiInstanceRoIHead,
    SingleRoIExtractor,
    StandardRoIHead,
)
from mmdet.models.utils import empty_instances
from mmdet.structures.bbox import scale_boxes
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.layers.box_voting import vote_neighbours
from mmfgl.models.test_time_augs.fusion import Evidence, fuse
from mmfgl.models.test_time_augs.masks import predict_masks
from mmfgl.models.test_time_augs.options import RoITTAOptions
from mmfgl.models.test_time_augs.passes import plan_passes
from mmfgl.models.test_time_augs.proposals import (
    merge_proposals,
    proposing,
    view_proposals,
)
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
    masks; driven by an ordinary ``tta_pipeline`` (``TestTimeAug`` over resizes
    and flips). ``DetTTAModel`` of mmdet instead pools the final boxes of all
    views into one more NMS, so a box need not be seen in more than one view.

    One list of proposals is mapped into every view by the view's own scale and
    flip; each view gives (R, C + 1) probabilities and (R, 4 K) boxes of the
    same RoIs; these are fused in the frame of the unflipped reference view and
    filtered as in ``BBoxHead``, and the boxes that are left move to the mean
    of their neighbours. With one view the result is that of plain prediction,
    bit for bit. The order of the views does not matter.

    The pyramids of all views are held at the same time.

    Args:
        module: The detector or its config.
        data_preprocessor: Replaces the detector's data preprocessor.
        **options: See :class:`RoITTAOptions`.

    Raises:
        TypeError: If the detector is not of the kind above.
        ValueError: If an option does not fit the detector or other options.

    Examples:
        >>> tta_model = dict(type='mmfgl.RoITTAModel', box_fusion='voting')
    """

    def __init__(
        self,
        module: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        **options: Any,
    ) -> None:
        parsed = RoITTAOptions(**options)
        super().__init__(module, data_preprocessor)
        self.options = parsed
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
        options = self.options
        if options.proposals == 'merged' and not self.module.with_rpn:
            raise ValueError(
                "proposals='merged' merges what the RPN proposes in each "
                "view, and this detector has none: use 'reference'"
            )
        extractor = head.bbox_roi_extractor
        if options.mode == 'pyramid' and (
            not isinstance(extractor, SingleRoIExtractor)
            or extractor.num_inputs < 2
        ):
            raise ValueError(
                "mode='pyramid' needs a SingleRoIExtractor over several "
                f"levels, got {type(extractor).__name__}; use mode='views'"
            )
        if (
            head.with_mask
            and options.mask_fusion == 'mean'
            and type(head).predict_mask is not StandardRoIHead.predict_mask
        ):
            raise ValueError(
                f'{name} predicts masks in its own way, which cannot be '
                "averaged: set mask_fusion='reference'"
            )

    def merge_preds(self, data_samples_list: list) -> list:
        """Not part of this model, which never has predictions of one view.

        Args:
            data_samples_list: Finished predictions of each view.

        Raises:
            NotImplementedError: Always.
        """
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
            ``pred_instances``: ``bboxes`` (N, 4) in original pixels (see
            ``rescale``), ``scores`` (N,), ``labels`` (N,) and, with a mask
            branch, ``masks`` (N, H, W).

        Raises:
            ValueError: If the data has no views, lacks meta keys or does not
                fit the options.
        """
        options = self.options
        batches = arrange_views(data, options.reference)
        if options.mode == 'pyramid':
            batches = batches[:1]
        self._extract(batches)
        frames = [view.upright for view in batches[0].views]
        passes = plan_passes(batches, options)
        roi_head = self.module.roi_head
        evidence = score_rois(
            roi_head,
            passes,
            self._propose(batches, frames),
            frames,
            options.rescore_thr,
        )
        results = [
            self._detect(of_image, meta)
            for of_image, meta in zip(evidence, batches[0].metas, strict=True)
        ]
        if roi_head.with_mask:
            if options.mask_fusion == 'reference':
                passes = passes[:1]
            results = predict_masks(
                roi_head, passes, results, frames, options.rescale
            )
        return self.module.add_pred_to_datasample(batches[0].samples, results)

    def _extract(self, batches: list[ViewBatch]) -> None:
        """Preprocess the views and extract their features.

        Views whose images have the same sizes, i.e. flips, may share one run.
        """
        stack = self.options.stack_views
        if stack is None:
            stack = next(self.module.parameters()).device.type != 'cpu'
        groups: dict[Any, list[ViewBatch]] = {}
        for index, batch in enumerate(batches):
            shapes = tuple(tuple(image.shape) for image in batch.inputs)
            groups.setdefault(shapes if stack else index, []).append(batch)
        for group in groups.values():
            data = dict(
                inputs=[i for batch in group for i in batch.inputs],
                data_samples=[s for batch in group for s in batch.samples],
            )
            data = self.module.data_preprocessor(data, False)
            feats = self.module.extract_feat(data['inputs'])
            for index, batch in enumerate(group):
                count = len(batch.inputs)
                part = slice(index * count, (index + 1) * count)
                batch.samples = data['data_samples'][part]
                batch.feats = tuple(level[part] for level in feats)

    def _propose(
        self, batches: list[ViewBatch], frames: list[View]
    ) -> list[InstanceData]:
        """One list of proposals for all views of each image."""
        first = batches[0]
        reference = view_proposals(self.module, first, frames)
        given = first.samples[0].get('proposals') is not None
        if given or not self.module.with_rpn:
            return reference
        lists = [[proposals] for proposals in reference]
        for batch in batches[1:]:
            wanted = proposing(first, batch, self.options.proposals)
            if not any(wanted):
                continue
            found = view_proposals(self.module, batch, frames)
            for of_image, more, want in zip(lists, found, wanted, strict=True):
                if want:
                    of_image.append(more)
        cfg = self.module.rpn_head.test_cfg
        return [
            merge_proposals(of_image, frame, cfg)
            if len(of_image) > 1
            else of_image[0]
            for of_image, frame in zip(lists, frames, strict=True)
        ]

    def _detect(
        self, evidence: Evidence, meta: dict[str, Any]
    ) -> InstanceData:
        """Fuse and filter as ``BBoxHead`` does after decoding."""
        head = self.module.roi_head
        boxes, scores = fuse(evidence, self.options)
        if len(boxes) == 0:
            return empty_instances(
                [meta],
                boxes.device,
                task_type='bbox',
                box_type=head.bbox_head.predict_box_type,
                num_classes=head.bbox_head.num_classes,
            )[0]
        # the mask branch rescales boxes and masks together, after NMS
        if self.options.rescale and not head.with_mask:
            inverse = [1 / factor for factor in meta['scale_factor']]
            boxes = scale_boxes(boxes, inverse)
        cfg = {**head.test_cfg, **(self.options.tta_cfg or {})}
        detections, labels = multiclass_nms(
            boxes, scores, cfg['score_thr'], cfg['nms'], cfg['max_per_img']
        )
        found = detections[:, :4]
        iou = self.options.neighbour_iou
        if len(evidence.boxes) == 1:  # as the detector does it
            iou = getattr(head.bbox_head, 'voting_iou', None)
        if iou is not None:
            found = vote_neighbours(found, labels, boxes, scores, iou)
        return InstanceData(
            bboxes=found, scores=detections[:, 4], labels=labels
        )
