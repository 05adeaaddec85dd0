"""One list of proposals an image for all its views."""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.layers import finite_boxes
from mmfgl.models.test_time_augs.views import View, ViewBatch


def propose(
    module: nn.Module, batches: Sequence[ViewBatch]
) -> list[InstanceData]:
    """Propose boxes once a scale and slice, and merge them.

    Flipped views propose nothing. Proposals that touch a cut edge of a slice
    are left out: they show a part of an object. Boxes that are no RPN's (no
    RPN, or ``proposals`` in the data) are those of the reference view.

    Args:
        module: A two-stage detector.
        batches: The views, reference first.

    Returns:
        Proposals of each image: ``bboxes`` (R, 4) in pixels of the reference
        view, ``scores`` and, with several views, best first.
    """
    first = batches[0]
    reference = _propose_in_view(module, first)
    if _given(first) or not module.with_rpn:
        return reference
    lists = [[proposals] for proposals in reference]
    for batch in batches[1:]:
        if all(view.flip for view in batch.views):
            continue
        found = _propose_in_view(module, batch)
        for of_image, more, view, frame in zip(
            lists, found, batch.views, first.views, strict=True
        ):
            if not view.flip:
                more = more[view.shows_whole(more.bboxes)]
                more.bboxes = view.to(more.bboxes, frame)
                of_image.append(more)
    cfg = module.rpn_head.test_cfg
    return [
        merge_proposals(of_image, frame, cfg)
        if len(of_image) > 1
        else of_image[0]
        for of_image, frame in zip(lists, first.views, strict=True)
    ]


def _given(batch: ViewBatch) -> bool:
    return batch.samples[0].get('proposals') is not None


def _propose_in_view(
    module: nn.Module, batch: ViewBatch
) -> list[InstanceData]:
    """Proposals of one view, ``bboxes`` (R, 4) in its pixels."""
    if _given(batch):
        results = [sample.proposals for sample in batch.samples]
    elif hasattr(module, 'propose'):
        results = module.propose(batch.feats, batch.samples)
    else:
        results = module.rpn_head.predict(
            batch.feats, batch.samples, rescale=False
        )
    proposals = [result.clone() for result in results]
    for result in proposals:
        result.bboxes = finite_boxes(get_box_tensor(result.bboxes))
    return proposals


def merge_proposals(
    view_results: Sequence[InstanceData], frame: View, rpn_cfg: dict
) -> InstanceData:
    """Merge the proposals of all views of one image, best first.

    Args:
        view_results: Proposals of each view with ``bboxes`` in pixels of
            ``frame`` and ``scores``.
        frame: Frame of the boxes; they are clipped to it.
        rpn_cfg: Test config of the RPN: ``nms`` and ``max_per_img``.
    """
    boxes = torch.cat([result.bboxes.float() for result in view_results])
    scores = torch.cat([result.scores.float() for result in view_results])
    height, width = frame.size
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    one_class = torch.zeros_like(scores, dtype=torch.long)
    if len(boxes) > 0:
        kept, index = batched_nms(boxes, scores, one_class, rpn_cfg['nms'])
        index = index[: rpn_cfg['max_per_img']]
        boxes, scores = boxes[index], kept[: len(index), -1]
    return InstanceData(
        bboxes=boxes, scores=scores, labels=one_class[: len(boxes)]
    )
