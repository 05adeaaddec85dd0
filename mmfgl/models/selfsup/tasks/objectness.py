"""Objectness: the detector's own losses on pseudo ground truth.

Shape shorthand: B images, V views, M objects of an image in all views. Views
are stacked view by view: row ``v * B + b``.
"""

import math
from collections.abc import Sequence

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.datasets.region_data_sample import RegionDataSample
from mmfgl.models.balancers import TaskLoss
from mmfgl.models.layers import readable_levels
from mmfgl.models.selfsup.task_context import TaskContext
from mmfgl.models.selfsup.tasks.base import PretrainingTask
from mmfgl.models.selfsup.tasks.teacher_boxes import TeacherBoxes, recall
from mmfgl.registry import MODELS


@MODELS.register_module()
class ObjectnessTask(PretrainingTask):
    """Train RPN and RoI head as in detection, on pseudo boxes and classes.

    The detector then starts with its localisation learnt (cf. AlignDet, arXiv
    2307.11077). Pseudo-classes, e.g. clusters of what the boxes show, are as
    many as ``roi_head.bbox_head.num_classes``; one class trains objectness
    alone. Data samples hold ``objects`` and ``object_labels``.

    Args:
        loss_weight: Weight of the summed loss.
        teacher_boxes: Arguments of :class:`TeacherBoxes`, if the EMA
            teacher's boxes are to join the pseudo ground truth.
    """

    name = 'objectness'

    def __init__(
        self, loss_weight: float = 1.0, teacher_boxes: dict | None = None
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.teacher_boxes = None
        if teacher_boxes is not None:
            self.teacher_boxes = TeacherBoxes(**teacher_boxes)

    def check(self, model: nn.Module) -> None:
        """Make sure that there is an RPN and a box head."""
        if not hasattr(model, 'rpn_head') or not model.roi_head.with_bbox:
            raise ValueError(
                'ObjectnessTask trains an RPN and a box head: give ReToD a '
                'detector with both, or leave the task out'
            )
        if self.teacher_boxes is not None and model.target_generator is None:
            raise ValueError(
                'teacher_boxes are those of the EMA teacher: give ReToD '
                "target_generator=dict(type='mmfgl.EMATeacher')"
            )

    def loss(self, context: TaskContext) -> TaskLoss:
        """Sum of the losses of RPN and RoI head.

        Its parts are logged as ``objectness/<part>``.

        Raises:
            KeyError: If the data hold no objects.
            ValueError: If a label is no pseudo-class.
        """
        model = context.model
        samples = pseudo_samples(context)
        _check_labels(context.data_samples, model.roi_head)
        files = [sample.gt_instances for sample in samples]
        joined = {}
        if self.teacher_boxes is not None:
            joined = self.teacher_boxes.join(context, samples)
        rpn, proposals = model.rpn_head.loss_and_predict(
            context.feats,
            _of_one_class(samples),
            proposal_cfg=model.proposal_cfg,
        )
        if joined:
            first = [x[: self.teacher_boxes.num] for x in proposals]
            joined['student_recall'] = recall(files, first)
        rcnn = model.roi_head.loss(
            readable_levels(context.feats), proposals, samples
        )
        # as mmdet's TwoStageDetector: an FCOS as RPN has names of the RoI head
        rpn = {k if 'rpn' in k else f'rpn_{k}': v for k, v in rpn.items()}
        total, parts = model.parse_losses({**rpn, **rcnn})
        del parts['loss']
        parts.update(joined)
        return TaskLoss(
            self.loss_weight * total.float(),
            loss_scale=self.loss_weight * uninformed_loss(model),
            logs={
                f'{self.name}/{key.replace("loss_", "")}': value.detach()
                for key, value in parts.items()
            },
        )


def pseudo_samples(context: TaskContext) -> list[DetDataSample]:
    """Pseudo ground truth of the V B views, boxes in view pixels.

    Raises:
        KeyError: If the data hold no objects.
    """
    shape = context.img_shape
    metainfo = dict(
        img_shape=shape,
        ori_shape=shape,
        pad_shape=shape,
        batch_input_shape=shape,
        scale_factor=(1.0, 1.0),
    )
    truths = [_objects_by_view(source) for source in context.data_samples]
    samples = []
    for view in range(context.num_views):
        for boxes, labels in (truth[view] for truth in truths):
            sample = DetDataSample(metainfo=metainfo)
            sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
            sample.ignored_instances = InstanceData(
                bboxes=boxes[:0], labels=labels[:0]
            )
            samples.append(sample)
    return samples


def _of_one_class(samples: list[DetDataSample]) -> list[DetDataSample]:
    """The same boxes as objects of one class, for the RPN."""
    labels = [sample.gt_instances.labels for sample in samples]
    counts = [len(own) for own in labels]
    zeros = torch.zeros_like(torch.cat(labels)).split(counts)
    objects = []
    for sample, own in zip(samples, zeros, strict=True):
        single = DetDataSample(metainfo=sample.metainfo)
        boxes = sample.gt_instances.bboxes
        single.gt_instances = InstanceData(bboxes=boxes, labels=own)
        single.ignored_instances = sample.ignored_instances
        objects.append(single)
    return objects


def _objects_by_view(source: RegionDataSample) -> list[tuple[Tensor, Tensor]]:
    """(M_v, 4) boxes and (M_v,) labels of an image, view by view."""
    for key in ('objects', 'object_labels', 'num_objects', 'max_label'):
        if key not in source:
            raise KeyError(
                'ObjectnessTask trains on pseudo ground truth, but the data '
                f"samples have no '{key}': give the view transform an "
                'object_proposer and pack with mmfgl.PackRegionViews, or '
                'leave the task out'
            )
    counts = list(source.num_objects)
    boxes = source.objects[:, 1:].float().split(counts)
    return list(zip(boxes, source.object_labels.split(counts), strict=True))


def uninformed_loss(model: nn.Module) -> float:
    """What an uninformed guess loses, to compare objectness with other tasks.

    Each class loss counts as log 2 (or log of the number of classes and
    background), each box loss as 1, times their weights.
    """
    rpn, heads = model.rpn_head, model.roi_head.bbox_head
    parts = [(rpn, 'cls', math.log(2)), (rpn, 'bbox', 1.0)]
    for head in heads if isinstance(heads, nn.ModuleList) else [heads]:
        parts.append((head, 'cls', math.log(head.num_classes + 1)))
        parts.append((head, 'bbox', 1.0))
        if hasattr(head, 'loss_quality'):
            parts.append((head, 'quality', math.log(2)))
    # heads that keep a loss by another name (SABL, Cascade RPN) count as 1
    losses = [(getattr(h, f'loss_{n}', None), value) for h, n, value in parts]
    return sum(getattr(loss, 'loss_weight', 1.0) * x for loss, x in losses)


def _check_labels(
    data_samples: Sequence[RegionDataSample], roi_head: nn.Module
) -> None:
    """Raise unless all labels are pseudo-classes of the box head."""
    heads = roi_head.bbox_head
    head = heads[0] if isinstance(heads, nn.ModuleList) else heads
    worst = max(data_samples, key=lambda sample: sample.max_label)
    if worst.max_label >= head.num_classes:
        raise ValueError(
            f'pseudo-class {worst.max_label} in object_labels of '
            f'{worst.get("img_path")}, but roi_head.bbox_head.num_classes is '
            f'{head.num_classes}: set it to the number of pseudo-classes (1 = '
            'class-agnostic)'
        )
