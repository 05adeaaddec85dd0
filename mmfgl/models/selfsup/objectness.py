"""Objectness: the detector's own RPN and RoI head on pseudo ground truth.

Shape shorthand: B images, V views (2), M objects of an image in all views.
Views are stacked view by view: row ``v * B + b``.
"""

import math
from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.registry import MODELS


def build_rpn_head(rpn_head: dict, train_cfg: ConfigDict) -> nn.Module:
    """Build an RPN as :class:`mmdet.models.TwoStageDetector` does.

    Args:
        rpn_head: Config of mmdet's ``RPNHead``.
        train_cfg: Training config of the detector.

    Returns:
        The RPN; it names one class, the object.
    """
    cfg = ConfigDict(_scope_='mmdet')
    cfg.update(rpn_head)
    cfg.update(
        train_cfg=train_cfg.rpn, test_cfg=train_cfg.rpn_proposal, num_classes=1
    )
    return MODELS.build(cfg)


def build_roi_head(roi_head: dict, train_cfg: ConfigDict | None) -> nn.Module:
    """Build a RoI head, for training its box head where it has one.

    Args:
        roi_head: Config of the RoI head.
        train_cfg: Training config of the detector, or ``None``.

    Returns:
        The RoI head.
    """
    if not roi_head.get('bbox_head'):
        return MODELS.build(roi_head)
    # the detector's configs name their parts without a scope
    cfg = ConfigDict(_scope_='mmdet')
    cfg.update(roi_head)
    if train_cfg is not None:
        cfg.update(train_cfg=train_cfg.rcnn, test_cfg=None)
    return MODELS.build(cfg)


def view_samples(
    data_samples: Sequence[RegionDataSample],
    views: Sequence[int],
    img_shape: tuple[int, int],
    num_classes: int | None = None,
) -> list[DetDataSample]:
    """Pseudo ground truth of views, as a detector takes it.

    Args:
        data_samples: Regions of B images, with ``objects`` and
            ``object_labels``.
        views: Indices of the views that are trained on.
        img_shape: (height, width) of a view in pixels.
        num_classes: Number of pseudo-classes; ``None`` drops the labels, for
            an RPN.

    Returns:
        One sample a view of an image, view by view; boxes in view pixels.

    Raises:
        KeyError: If the data hold no objects.
        ValueError: If a label is no pseudo-class.
    """
    metainfo = dict(
        img_shape=img_shape,
        ori_shape=img_shape,
        pad_shape=img_shape,
        batch_input_shape=img_shape,
        scale_factor=(1.0, 1.0),
    )
    samples = []
    for view in views:
        for source in data_samples:
            boxes, labels = _objects(source, num_classes)
            chosen = boxes[:, 0] == view
            sample = DetDataSample(metainfo=metainfo)
            sample.gt_instances = InstanceData(
                bboxes=boxes[chosen, 1:], labels=labels[chosen]
            )
            sample.ignored_instances = InstanceData(
                bboxes=boxes.new_zeros(0, 4), labels=labels.new_zeros(0)
            )
            samples.append(sample)
    return samples


def _objects(
    sample: RegionDataSample, num_classes: int | None
) -> tuple[Tensor, Tensor]:
    """(M, 5) objects and (M,) labels of an image, checked."""
    for key in ('objects', 'object_labels'):
        if key not in sample:
            raise KeyError(
                f'ReToD with rpn_head trains on pseudo ground truth, but the '
                f"data samples have no '{key}': give the view transform a "
                'source of objects (a content-based region proposer), or set '
                'rpn_head=None'
            )
    objects, labels = sample.objects.float(), sample.object_labels
    if num_classes is None:
        return objects, torch.zeros_like(labels)
    if len(labels) and int(labels.max()) >= num_classes:
        raise ValueError(
            f'pseudo-class {int(labels.max())} in object_labels, but '
            f'roi_head.bbox_head.num_classes is {num_classes}: set it to the '
            'number of pseudo-classes (1 = class-agnostic)'
        )
    return objects, labels


def objectness_losses(
    rpn_head: nn.Module,
    roi_head: nn.Module,
    feats: tuple[Tensor, ...],
    data_samples: Sequence[RegionDataSample],
    views: Sequence[int],
    img_shape: tuple[int, int],
) -> dict[str, Tensor]:
    """Losses of the RPN and, where there is one, of the box head.

    Args:
        rpn_head: The RPN.
        roi_head: The RoI head; its ``bbox_head`` is trained on the RPN's
            proposals, as in a two-stage detector.
        feats: Pyramid levels of the views, each (len(views) B, C, H_l, W_l).
        data_samples: Regions of the B images.
        views: Indices of the views.
        img_shape: (height, width) of a view in pixels.

    Returns:
        ``loss_rpn_cls``, ``loss_rpn_bbox`` and, with a box head,
        ``loss_obj_cls``, ``loss_obj_bbox``, ... and its statistics
        (``obj_acc``); losses are fp32 scalars.
    """
    samples = view_samples(data_samples, views, img_shape)
    losses, proposals = rpn_head.loss_and_predict(
        feats, samples, proposal_cfg=rpn_head.test_cfg
    )
    losses = {key: _total(value) for key, value in losses.items()}
    if not roi_head.with_bbox:
        return losses
    num_classes = roi_head.bbox_head.num_classes
    samples = view_samples(data_samples, views, img_shape, num_classes)
    for key, value in roi_head.loss(feats, proposals, samples).items():
        name = key.replace('loss_', 'loss_obj_')
        losses[name if 'loss' in key else f'obj_{key}'] = _total(value)
    return losses


def objectness_unit(rpn_head: nn.Module, roi_head: nn.Module) -> float:
    """What counts as 1 of the summed loss, to compare it with other tasks.

    Each class loss counts as what an uninformed guess costs, log 2 (or log of
    the number of classes and background), each box loss as 1, times their
    weights.

    Args:
        rpn_head: The RPN.
        roi_head: The RoI head.

    Returns:
        The unit.
    """
    guess = math.log(2)
    parts = [(rpn_head.loss_cls, guess), (rpn_head.loss_bbox, 1.0)]
    if roi_head.with_bbox:
        head = roi_head.bbox_head
        parts.append((head.loss_cls, math.log(head.num_classes + 1)))
        parts.append((head.loss_bbox, 1.0))
        if hasattr(head, 'loss_quality'):
            parts.append((head.loss_quality, guess))
    return sum(
        getattr(loss, 'loss_weight', 1.0) * value for loss, value in parts
    )


def _total(value: Tensor | list[Tensor]) -> Tensor:
    """A loss in fp32; those of several pyramid levels added up."""
    return sum(value).float() if isinstance(value, list) else value.float()
