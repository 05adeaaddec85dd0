"""The EMA teacher's own boxes as further pseudo ground truth.

Shape shorthand: B images, V views, V B samples, K boxes of a view.
"""

import torch
from mmdet.structures import DetDataSample
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from mmfgl.models.layers import has_area, readable_levels
from mmfgl.models.selfsup.task_context import TaskContext


class TeacherBoxes:
    """Adds what the EMA teacher detects to the objects of a view.

    A detector trained on noisy boxes finds objects that its boxes miss, and
    its average is steadier than itself (cf. Unbiased Teacher, arXiv
    2102.09480). The first ``num`` proposals of the teacher's RPN are refined
    and labelled by its RoI head; those that overlap a box of the file, or a
    better one, are left out.

    Args:
        start: Share of the run, in [0, 1), after which they join.
        num: Proposals of a view that are considered: the most that join.
        score_thr: Least score of the RPN. That of a pseudo-class, one of many
            clusters, says little of whether there is an object, but must
            reach the ``score_thr`` of ``test_cfg.rcnn`` too: keep that low.
        iou_thr: They may not overlap another box more than this.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        start: float = 0.3,
        num: int = 5,
        score_thr: float = 0.5,
        iou_thr: float = 0.5,
    ) -> None:
        if not 0 <= start < 1 or num < 1:
            raise ValueError(
                'teacher_boxes needs 0 <= start < 1 and num >= 1, got '
                f'{start} and {num}'
            )
        self.start = start
        self.num = num
        self.score_thr = score_thr
        self.iou_thr = iou_thr

    @property
    def has_started(self) -> bool:
        """Whether the run is far enough, by the message hub."""
        hub = MessageHub.get_current_instance()
        done, whole = hub.get_info('iter', 0), hub.get_info('max_iters', 0)
        return bool(whole) and done >= self.start * whole

    @torch.no_grad()
    def join(
        self, context: TaskContext, samples: list[DetDataSample]
    ) -> dict[str, Tensor]:
        """Add the teacher's boxes to the samples, in place.

        Args:
            context: Views and teacher of the step.
            samples: Pseudo ground truth of the V B views, boxes in view
                pixels.

        Returns:
            Logs: ``teacher_boxes``, how many joined a view, and
            ``teacher_recall``, see :func:`recall`. Empty before the start.
        """
        if not self.has_started:
            return {}
        found = self.detect(context.model.target_generator, context, samples)
        files = [sample.gt_instances for sample in samples]
        rows = [_rows(f.bboxes, i) for i, f in enumerate(files)]
        rows += [_rows(f.bboxes, i) for i, f in enumerate(found)]
        boxes, views = (torch.cat(x) for x in zip(*rows, strict=True))
        count = sum(len(f) for f in files)
        scores = torch.cat([f.scores for f in found])
        # a box of the file outranks all of the teacher's
        ranks = torch.cat([scores.new_full((count,), 2.0), scores])
        kept = torch.zeros_like(ranks, dtype=torch.bool)
        kept[batched_nms(boxes, ranks, views, self.iou_thr)] = True
        kept = kept[count:]
        parts = kept.split([len(f) for f in found])
        logs = dict(
            teacher_boxes=kept.sum() / len(samples),
            teacher_recall=recall(files, found),
        )
        for sample, old, new, keep in zip(
            samples, files, found, parts, strict=True
        ):
            new = new[keep]
            sample.gt_instances = InstanceData(
                bboxes=torch.cat([old.bboxes, new.bboxes]),
                labels=torch.cat([old.labels, new.labels]),
            )
        return logs

    def detect(
        self,
        teacher: nn.Module,
        context: TaskContext,
        samples: list[DetDataSample],
    ) -> list[InstanceData]:
        """Boxes, scores and pseudo-classes of each view, in view pixels."""
        feats = readable_levels(teacher.extract_feat(context.views))
        proposals = teacher.rpn_head.predict(feats, samples, rescale=False)
        proposals = [found[: self.num] for found in proposals]
        proposals = [p[p.scores >= self.score_thr] for p in proposals]
        found = teacher.roi_head.predict(
            feats, proposals, samples, rescale=False
        )
        # a box regressed past the edge has no area left, and no target
        found = [f[has_area(f.bboxes)][: self.num] for f in found]
        return [
            InstanceData(
                bboxes=f.bboxes.float(), scores=f.scores, labels=f.labels
            )
            for f in found
        ]


@torch.no_grad()
def recall(objects: list[InstanceData], found: list[InstanceData]) -> Tensor:
    """Share of the boxes of all views that others find at IoU 0.5.

    Of the boxes to learn from it says how far student and teacher agree with
    them; no label is needed.
    """
    hits = [
        (box_iou(own.bboxes, other.bboxes.float()) >= 0.5).any(dim=1)
        for own, other in zip(objects, found, strict=True)
        if len(other)
    ]
    count = max(sum(len(own) for own in objects), 1)
    total = objects[0].bboxes.new_zeros(())
    return sum((hit.sum() for hit in hits), total) / count


def _rows(boxes: Tensor, view: int) -> tuple[Tensor, Tensor]:
    """(K, 4) boxes, and (K,) the view they lie in."""
    return boxes, boxes.new_full((len(boxes),), view)
