"""Masks of fused boxes, averaged over views."""

from collections.abc import Sequence

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.bbox import bbox2roi
from mmengine.structures import InstanceData

from mmfgl.models.test_time_augs.scoring import view_weights
from mmfgl.models.test_time_augs.views import ViewBatch

_FLIP_DIMS = dict(horizontal=[-1], vertical=[-2], diagonal=[-2, -1])


def predict_masks(
    roi_head: StandardRoIHead,
    batches: Sequence[ViewBatch],
    results: list[InstanceData],
) -> list[InstanceData]:
    """Predict the masks of final boxes.

    Probabilities are averaged over the views that a box is scored in. Levels
    are not: in mode 'pyramid' masks come from the boxes' own level. Heads
    with an own ``predict_mask`` are asked in the reference view alone.

    Args:
        roi_head: RoI head with a mask branch.
        batches: The views, reference first.
        results: Detections of each image, ``bboxes`` (N, 4) in pixels of its
            reference view.

    Returns:
        ``results`` in original pixels, with ``masks`` (N, H, W).
    """
    first = batches[0]
    own_way = type(roi_head).predict_mask is not StandardRoIHead.predict_mask
    if own_way or len(batches) == 1 or not any(map(len, results)):
        return roi_head.predict_mask(
            first.feats, first.metas, results, rescale=True
        )
    boxes = [result.bboxes for result in results]
    weights = [
        view_weights([batch.views[image] for batch in batches], of_image)
        for image, of_image in enumerate(boxes)
    ]
    means: list = [0] * len(boxes)
    for index, batch in enumerate(batches):
        rois = bbox2roi(
            [
                frame.to(of_image, view)
                for of_image, view, frame in zip(
                    boxes, batch.views, first.views, strict=True
                )
            ]
        )
        preds = roi_head._mask_forward(batch.feats, rois)['mask_preds']
        preds = preds.float().sigmoid().split([len(b) for b in boxes])
        for image, (pred, view) in enumerate(
            zip(preds, batch.views, strict=True)
        ):
            if view.flip:
                pred = pred.flip(_FLIP_DIMS[view.flip])
            share = weights[image][index] / weights[image].sum(0)
            means[image] = means[image] + share[:, None, None, None] * pred
    return roi_head.mask_head.predict_by_feat(
        # the mask head applies the sigmoid itself; keep the logits finite
        mask_preds=[torch.logit(mean, eps=1e-6) for mean in means],
        results_list=results,
        batch_img_metas=first.metas,
        rcnn_test_cfg=roi_head.test_cfg,
        rescale=True,
    )
