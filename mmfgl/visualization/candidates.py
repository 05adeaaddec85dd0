"""What an FGL detector does with one image, step by step, as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import mmcv
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmdet.utils import get_test_pipeline_cfg
from mmengine.dataset import Compose
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmfgl.models.roi_heads import FGLRoIHead


@dataclass
class Trace:
    """The steps of one prediction; boxes in original pixels.

    N candidates, Q important targets, C classes.

    Attributes:
        image: (H, W, 3) uint8 RGB image.
        boxes: (N, 4) candidates.
        context: (N,) bool, candidates that others may read.
        targets: (Q,) long indices of the important targets.
        scores: (Q, C) final class scores of the targets, before NMS.
        attention: (Q, N) what each target reads, the mean of the heads of
            the last attention layer (rows sum to 1), or ``None`` for a head
            without attention.
        found: Final detections.
    """

    image: np.ndarray
    boxes: Tensor
    context: Tensor
    targets: Tensor
    scores: Tensor
    attention: Tensor | None
    found: InstanceData


@torch.no_grad()
def trace_image(model: nn.Module, path: str) -> Trace:
    """Run an FGL detector on an image and keep its steps.

    Args:
        model: Detector of mmdet's ``init_detector``, whose RoI head is a
            :class:`FGLRoIHead`.
        path: Image file.

    Returns:
        The trace.

    Raises:
        TypeError: If the detector's RoI head is another.
        ValueError: If the detector finds no candidate.
    """
    roi_head = getattr(model, 'roi_head', None)
    if not isinstance(roi_head, FGLRoIHead):
        kind = type(model if roi_head is None else roi_head).__name__
        raise TypeError(
            'this picture shows the candidates of an FGL detector (RoI head '
            f'mmfgl.FGLRoIHead), but the config builds {kind}'
        )
    pipeline = Compose(get_test_pipeline_cfg(model.cfg))
    item = pipeline(dict(img_path=path, img_id=0))
    batch = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
    with _recording(roi_head) as record:
        (sample,) = model.test_step(batch)
    if 'boxes' not in record:
        raise ValueError(f'the detector has no candidate in {path}')
    selection, logits = record['selection'], record['logits'].float()
    scores = roi_head.bbox_head.mix_quality(
        logits[:, :-1].softmax(-1), logits[:, -1:].sigmoid()
    )
    attention = record.get('attention')
    if attention is not None:
        attention = attention[0].cpu()
        if not len(roi_head.transformer.decoder):  # rows of all candidates
            attention = attention[selection.targets.cpu()]
    boxes = record['boxes'].float()
    return Trace(
        image=mmcv.imread(path, channel_order='rgb'),
        boxes=(boxes / boxes.new_tensor(sample.scale_factor).repeat(2)).cpu(),
        context=selection.context.cpu(),
        targets=selection.targets.cpu(),
        scores=scores[:, :-1].cpu(),
        attention=attention,
        found=sample.pred_instances.cpu(),
    )


@contextmanager
def _recording(roi_head: FGLRoIHead) -> Iterator[dict]:
    """Record candidates, selection, attention and logits of a prediction."""
    record: dict = {}
    select = roi_head.selector.select

    def record_selection(boxes, *args, **kwargs):
        record.update(boxes=boxes, selection=select(boxes, *args, **kwargs))
        return record['selection']

    def record_attention(module, args):
        x, memory, mask, bias = (*args, None)[:4]
        scores = bias(slice(None)) if bias is not None else None
        record['attention'] = module.weights(x, memory, mask, scores)

    def record_logits(module, args, outputs):
        record['logits'] = outputs[0]

    transformer = roi_head.transformer
    blocks = [*transformer.encoder, *transformer.decoder]
    hooks = [
        block.attention.register_forward_pre_hook(record_attention)
        for block in blocks[-1:]
    ]
    hooks.append(roi_head.bbox_head.register_forward_hook(record_logits))
    roi_head.selector.select = record_selection
    try:
        yield record
    finally:
        del roi_head.selector.select
        for hook in hooks:
            hook.remove()


def draw_trace(
    trace: Trace,
    classes: tuple[str, ...],
    target: int = 0,
    score_thr: float = 0.3,
    max_boxes: int = 200,
) -> Figure:
    """Draw the four steps of a prediction.

    Args:
        trace: The prediction.
        classes: Names of the classes.
        target: Which target's attention to draw: 0 is the important target
            of highest class score, 1 the next.
        score_thr: Detections below this score are not drawn.
        max_boxes: Candidates drawn at most, for readability; those of
            highest rank in the proposal list.

    Returns:
        A figure of four panels: candidates kept and dropped, important
        targets, attention of one target, detections.

    Raises:
        ValueError: If there are not so many targets.
    """
    if not 0 <= target < len(trace.targets):
        raise ValueError(
            f'target {target} of {len(trace.targets)} important targets: '
            'count from 0'
        )
    height, width = trace.image.shape[:2]
    figure = Figure(
        figsize=(14, 14 * height / width + 0.8), layout='constrained'
    )
    kept, chosen, read, found = figure.subplots(2, 2).flat
    _draw_candidates(kept, trace, max_boxes)
    _draw_targets(chosen, trace, max_boxes)
    _draw_attention(read, trace, classes, target)
    _draw_found(found, trace, classes, score_thr)
    for axes in (kept, chosen, read, found):
        axes.imshow(trace.image)
        axes.set_axis_off()
    return figure


def _box(axes: Axes, box: Tensor, **style) -> None:
    x1, y1, x2, y2 = box.tolist()
    style = {'fill': False, 'linewidth': 1, **style}
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, **style))


def _draw_candidates(axes: Axes, trace: Trace, max_boxes: int) -> None:
    for box, kept in zip(trace.boxes[:max_boxes], trace.context[:max_boxes]):
        _box(axes, box, edgecolor='lime' if kept else 'red', alpha=0.6)
    num, kept = len(trace.boxes), int(trace.context.sum())
    axes.set_title(
        f'{kept} candidates kept (green), {num - kept} dropped (red)'
    )


def _draw_targets(axes: Axes, trace: Trace, max_boxes: int) -> None:
    best = trace.scores.amax(dim=1)
    order = best.argsort(descending=True)[:max_boxes].flip(0)
    for row in order.tolist():
        alpha = 0.15 + 0.85 * float(best[row] / best.max().clamp(min=1e-6))
        box = trace.boxes[trace.targets[row]]
        _box(axes, box, edgecolor='deepskyblue', alpha=alpha)
    axes.set_title(
        f'{len(trace.targets)} important targets (the fainter, the lower '
        'their score)'
    )


def _draw_attention(
    axes: Axes, trace: Trace, classes: tuple[str, ...], target: int
) -> None:
    order = trace.scores.amax(dim=1).argsort(descending=True)
    row = int(order[target])
    score, label = trace.scores[row].max(dim=0)
    own = int(trace.targets[row])
    title = f'target {target} ({classes[label]} {score:.2f}, yellow)'
    if trace.attention is None:
        title += ': no attention layer'
    else:
        weights = trace.attention[row]
        open_ones = weights.argsort(descending=True)
        open_ones = open_ones[weights[open_ones] > 0][:50]
        top = weights[open_ones].max().clamp(min=1e-6)
        for index in open_ones.flip(0).tolist():
            share = float(weights[index] / top)
            _box(
                axes,
                trace.boxes[index],
                edgecolor='magenta',
                alpha=0.1 + 0.9 * share,
                linewidth=0.5 + 2.5 * share,
            )
        others = 1 - float(weights[own])
        title += f' reads {len(open_ones)} candidates, {others:.0%} not itself'
    _box(axes, trace.boxes[own], edgecolor='yellow', linestyle='--')
    axes.set_title(title)


def _draw_found(
    axes: Axes, trace: Trace, classes: tuple[str, ...], score_thr: float
) -> None:
    found = trace.found[trace.found.scores >= score_thr]
    for box, label, score in zip(
        found.bboxes, found.labels.tolist(), found.scores.tolist()
    ):
        _box(axes, box, edgecolor='orange', linewidth=2)
        axes.text(
            float(box[0]),
            float(box[1]),
            f'{classes[label]} {score:.2f}',
            color='black',
            fontsize=8,
            backgroundcolor='orange',
        )
    axes.set_title(f'{len(found)} detections of score >= {score_thr:g}')
