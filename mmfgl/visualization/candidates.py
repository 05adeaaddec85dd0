"""What an FGL detector does with one image, step by step, as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.utils import get_test_pipeline_cfg
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.datasets.guarded_pipeline import inference_pipeline
from mmfgl.datasets.image_reader import read_image
from mmfgl.models.roi_heads import FGLRoIHead

# Candidates drawn at most, for readability: the first proposals.
MAX_BOXES = 200


@dataclass
class Trace:
    """The steps of one prediction; boxes in original pixels.

    N candidates, Q important targets, C classes.

    Attributes:
        image: (H, W, 3) uint8 RGB image.
        boxes: (N, 4) candidates.
        context: (N,) bool, candidates that others may read.
        targets: (Q,) long important targets, highest class score first.
        scores: (Q, C) final class scores of the targets, before NMS.
        attention: (Q, N) weights of the last attention layer, if any.
        found: Final detections.
        classes: Names of the classes.
    """

    image: np.ndarray
    boxes: Tensor
    context: Tensor
    targets: Tensor
    scores: Tensor
    attention: Tensor | None
    found: InstanceData
    classes: tuple[str, ...]


def fgl_head(model: nn.Module) -> FGLRoIHead:
    """The RoI head of an FGL detector.

    Raises:
        TypeError: It is no FGL detector.
    """
    roi_head = getattr(model, 'roi_head', None)
    if not isinstance(roi_head, FGLRoIHead):
        kind = type(model if roi_head is None else roi_head).__name__
        raise TypeError(
            'this picture shows the candidates of an FGL detector (RoI head '
            f'mmfgl.FGLRoIHead), but the config builds {kind}'
        )
    return roi_head


@torch.no_grad()
def trace_image(model: nn.Module, path: str) -> Trace:
    """Run a detector of mmdet's ``init_detector`` and keep its steps.

    Raises:
        TypeError: If the detector's RoI head is no :class:`FGLRoIHead`.
        UnreadableImageError: If the image cannot be used.
        ValueError: If the detector finds no candidate.
    """
    roi_head = fgl_head(model)
    pipeline = inference_pipeline(get_test_pipeline_cfg(model.cfg))
    batch = pseudo_collate([pipeline(dict(img_path=path, img_id=0))])
    with _recording(roi_head) as record:
        (sample,) = model.test_step(batch)
    if 'boxes' not in record:
        raise ValueError(f'the detector has no candidate in {path}')
    selection, logits = record['selection'], record['logits'].float()
    scores = roi_head.bbox_head.mix_quality(
        logits[:, :-1].softmax(-1), logits[:, -1:].sigmoid()
    )[:, :-1]
    order = scores.amax(dim=1).argsort(descending=True)
    targets, attention = selection.targets[order], record.get('attention')
    if attention is not None:
        decodes = len(roi_head.transformer.decoder)  # else all have a row
        attention = attention[0, order if decodes else targets]
    boxes = record['boxes'].float()
    return Trace(
        image=read_image(path)[..., ::-1],
        boxes=boxes / boxes.new_tensor(sample.scale_factor).repeat(2),
        context=selection.context,
        targets=targets,
        scores=scores[order],
        attention=attention,
        found=sample.pred_instances,
        classes=tuple(model.dataset_meta['classes']),
    )


@contextmanager
def _recording(roi_head: FGLRoIHead) -> Iterator[dict]:
    """Record candidates, selection, attention and logits of a prediction."""
    record: dict = {}
    layers = [*roi_head.transformer.encoder, *roi_head.transformer.decoder]
    select = roi_head.selector.select

    def record_selection(boxes, *args, **kwargs):
        record.update(boxes=boxes, selection=select(boxes, *args, **kwargs))
        return record['selection']

    def record_attention(module, args):
        record['attention'] = module.weights(*args)

    def record_logits(module, args, outputs):
        record['logits'] = outputs[0]

    roi_head.selector.select = record_selection
    hooks = [roi_head.bbox_head.register_forward_hook(record_logits)]
    for layer in layers[-1:]:
        attention = layer.attention
        hooks.append(attention.register_forward_pre_hook(record_attention))
    try:
        yield record
    finally:
        del roi_head.selector.select
        for hook in hooks:
            hook.remove()


def draw_trace(
    trace: Trace,
    target: int,
    score_thr: float,
    panels: Sequence[str] = ('candidates', 'targets', 'attention', 'found'),
) -> Figure:
    """Draw candidates, targets, what one reads, boxes from ``score_thr`` on.

    Args:
        trace: The steps of a prediction.
        target: Whose attention is drawn; 0 has the highest class score.
        score_thr: Least score of a detection that is drawn.
        panels: Which of the four, in rows of two.

    Raises:
        ValueError: If there are not so many targets.
    """
    if not 0 <= target < len(trace.targets):
        raise ValueError(
            f'target {target} of {len(trace.targets)}: count from 0'
        )
    draw = dict(
        candidates=lambda axes: _draw_candidates(axes, trace),
        targets=lambda axes: _draw_targets(axes, trace),
        attention=lambda axes: _draw_attention(axes, trace, target),
        found=lambda axes: _draw_found(axes, trace, score_thr),
    )
    columns = min(len(panels), 2)
    rows = math.ceil(len(panels) / columns)
    height, width = trace.image.shape[:2]
    size = (7 * columns, rows * (7 * height / width + 0.4))
    figure = Figure(figsize=size, layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for name, axes in zip(panels, grid):
        draw[name](axes)
        axes.imshow(trace.image)
    for axes in grid:
        axes.set_axis_off()
    return figure


def _box(axes: Axes, box: Tensor, **style) -> None:
    x1, y1, x2, y2 = box.tolist()
    style = {'fill': False, 'linewidth': 1, **style}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))


def _draw_candidates(axes: Axes, trace: Trace) -> None:
    for box, kept in zip(trace.boxes[:MAX_BOXES], trace.context[:MAX_BOXES]):
        _box(axes, box, edgecolor='lime' if kept else 'red', alpha=0.6)
    kept, dropped = int(trace.context.sum()), int((~trace.context).sum())
    axes.set_title(f'{kept} candidates kept (green), {dropped} dropped (red)')


def _draw_targets(axes: Axes, trace: Trace) -> None:
    best = trace.scores.amax(dim=1)
    shares = (best / best.max().clamp(min=1e-6)).tolist()
    chosen = trace.targets[:MAX_BOXES]
    for box, share in zip(trace.boxes[chosen], shares):
        _box(axes, box, edgecolor='deepskyblue', alpha=0.15 + 0.85 * share)
    axes.set_title(f'{len(best)} important targets (faint: low score)')


def _draw_attention(axes: Axes, trace: Trace, target: int) -> None:
    score, label = trace.scores[target].max(dim=0)
    own = int(trace.targets[target])
    title = f'target {target} ({trace.classes[label]} {score:.2f}, yellow)'
    if trace.attention is None:
        title += ': no attention layer'
    else:
        weights = trace.attention[target]
        read = weights.argsort(descending=True)[: (weights > 0).sum()][:50]
        for index in read.flip(0).tolist():
            share = float(weights[index] / weights.max())
            style = dict(alpha=0.1 + 0.9 * share, linewidth=0.5 + 2.5 * share)
            _box(axes, trace.boxes[index], edgecolor='magenta', **style)
        others = 1 - float(weights[own])
        title += f' reads {len(read)} candidates, {others:.0%} not itself'
    _box(axes, trace.boxes[own], edgecolor='yellow', linestyle='--')
    axes.set_title(title)


def _draw_found(axes: Axes, trace: Trace, score_thr: float) -> None:
    found = trace.found[trace.found.scores >= score_thr]
    style = dict(color='black', fontsize=8, backgroundcolor='orange')
    for box, label, score in zip(found.bboxes, found.labels, found.scores):
        _box(axes, box, edgecolor='orange', linewidth=2)
        text = f'{trace.classes[label]} {score:.2f}'
        axes.text(*box[:2].tolist(), text, **style)
    axes.set_title(f'{len(found)} detections of score >= {score_thr:g}')
