"""Masks of fused boxes, averaged over passes."""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData
from torch import Tensor

from mmfgl.models.test_time_augs.passes import Pass
from mmfgl.models.test_time_augs.scoring import roi_weights, shifted_levels
from mmfgl.models.test_time_augs.views import View

_FLIP_DIMS = dict(horizontal=[-1], vertical=[-2], diagonal=[-2, -1])


def predict_masks(
    roi_head: StandardRoIHead,
    passes: Sequence[Pass],
    results: list[InstanceData],
    frames: Sequence[View],
    rescale: bool,
) -> list[InstanceData]:
    """Predict the masks of final boxes.

    Args:
        roi_head: RoI head with a mask branch.
        passes: The passes to average over, reference first. With one, these
            are the masks of plain prediction.
        results: Detections of each image, ``bboxes`` (N, 4) in pixels of its
            frame.
        frames: Frame of each image: the reference view, unflipped.
        rescale: Return boxes and masks in original pixels.

    Returns:
        ``results`` with ``masks`` (N, H, W).
    """
    reference = passes[0].batch
    plain = len(passes) == 1 and reference.views == list(frames)
    if plain or not any(len(result) for result in results):
        return roi_head.predict_mask(
            reference.feats, reference.metas, results, rescale=rescale
        )
    boxes = [result.bboxes for result in results]
    logits = _mean_logits(roi_head, passes, boxes, frames)
    return roi_head.mask_head.predict_by_feat(
        mask_preds=logits,
        results_list=results,
        batch_img_metas=reference.metas,
        rcnn_test_cfg=roi_head.test_cfg,
        rescale=rescale,
    )


def _mean_logits(
    roi_head: StandardRoIHead,
    passes: Sequence[Pass],
    boxes: Sequence[Tensor],
    frames: Sequence[View],
) -> list[Tensor]:
    """Logits (N, C or 1, h, w) of the mean mask probabilities, per image."""
    shares = []
    for image, (of_image, frame) in enumerate(zip(boxes, frames)):
        weights = roi_weights(
            passes, of_image, frame, image, roi_head.mask_roi_extractor
        )
        shares.append((weights / weights.sum(0))[..., None, None, None])
    means: list = [0] * len(boxes)
    for index, p in enumerate(passes):
        rois = bbox2roi(
            [
                frame.to(of_image, view)
                for of_image, view, frame in zip(boxes, p.batch.views, frames)
            ]
        )
        with shifted_levels(roi_head, p.shift):
            preds = roi_head._mask_forward(p.batch.feats, rois)['mask_preds']
        preds = preds.float().sigmoid().split([len(b) for b in boxes])
        for image, (pred, view) in enumerate(zip(preds, p.batch.views)):
            if view.flip:
                pred = pred.flip(_FLIP_DIMS[view.flip])
            means[image] = means[image] + shares[image][index] * pred
    # the mask head applies the sigmoid itself; keep the logits finite
    return [torch.logit(mean, eps=1e-6) for mean in means]
