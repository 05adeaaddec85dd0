"""One list of proposals an image for all its views."""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.models.test_time_augs.views import View, ViewBatch


def proposing(reference: ViewBatch, batch: ViewBatch, kind: str) -> list[bool]:
    """Whether the RPN of a view, other than the reference, is asked.

    Args:
        reference: The reference view of each image.
        batch: Another view of each image.
        kind: ``proposals`` of :class:`RoITTAOptions`.

    Returns:
        The answer for each image.
    """
    return [
        kind == 'merged' or (kind == 'scales' and view.flip == own.flip)
        for own, view in zip(reference.views, batch.views, strict=True)
    ]


def view_proposals(
    module: nn.Module, batch: ViewBatch, frames: Sequence[View]
) -> list[InstanceData]:
    """Proposals of one view of each image, as the detector makes them.

    Args:
        module: A two-stage detector.
        batch: The views, features extracted.
        frames: Target frame of each image.

    Returns:
        Proposals of each image; ``bboxes`` (R, 4) in pixels of the frame, the
        other fields as they are.
    """
    if hasattr(module, 'propose'):  # FGLFasterRCNN
        results = module.propose(batch.feats, batch.samples)
    elif batch.samples[0].get('proposals') is None:
        results = module.rpn_head.predict(
            batch.feats, batch.samples, rescale=False
        )
    else:
        results = [sample.proposals for sample in batch.samples]
    proposals = []
    for result, view, frame in zip(results, batch.views, frames, strict=True):
        fields = dict(result.items())
        fields['bboxes'] = view.to(get_box_tensor(result.bboxes), frame)
        proposals.append(InstanceData(**fields))
    return proposals


def merge_proposals(
    view_results: Sequence[InstanceData], frame: View, rpn_cfg: dict
) -> InstanceData:
    """Merge the proposals of all views of one image.

    Args:
        view_results: Proposals of each view with ``bboxes`` in pixels of
            ``frame`` and ``scores``.
        frame: Frame of the boxes; they are clipped to it.
        rpn_cfg: Test config of the RPN: ``nms`` and ``max_per_img``.

    Returns:
        At most ``max_per_img`` proposals, best first.
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
