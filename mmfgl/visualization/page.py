"""A web page that shows what an FGL detector does with an image."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import gradio as gr
import numpy as np
from matplotlib.figure import Figure
from torch import nn

from mmfgl.visualization.candidates import (
    Trace,
    draw_trace,
    fgl_head,
    trace_image,
)

TABS = {
    'Detections': ['found'],
    'Candidates': ['candidates'],
    'Targets': ['targets'],
    'Attention': ['attention'],
}


def build_page(
    model: nn.Module,
    title: str,
    examples: Sequence[str] = (),
    score_thr: float = 0.3,
) -> gr.Blocks:
    """Make the page; ``launch()`` serves it.

    Args:
        model: An FGL detector of mmdet's ``init_detector``.
        title: Of the page.
        examples: Image files to choose from.
        score_thr: Least score of a detection to begin with.

    Returns:
        A page with one image to give, the threshold of the detections and the
        number of the target whose attention is shown.

    Raises:
        TypeError: It is no FGL detector.
    """
    fgl_head(model)
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f'# {title}')
        trace = gr.State()
        with gr.Row():
            with gr.Column(scale=1):
                image = gr.Image(label='Image', type='numpy')
                if examples:
                    gr.Examples(list(examples), image)
                start = round(score_thr, 2)
                score = gr.Slider(0, 1, start, step=0.01, label='Least score')
                target = gr.Number(
                    0,
                    precision=0,
                    minimum=0,
                    label='Target whose attention is shown (0: best)',
                )
            with gr.Column(scale=2):
                plots = []
                for name in TABS:
                    with gr.Tab(name):
                        plots.append(gr.Image(label=name, interactive=False))
                table = gr.Dataframe(
                    headers=['class', 'score', 'x1', 'y1', 'x2', 'y2'],
                    label='Detections, original pixels',
                    interactive=False,
                )
        shown = [*plots, table]

        def detect(pixels, score_thr):
            found = None if pixels is None else _trace(model, pixels)
            return found, 0, *_show(found, 0, score_thr)

        image.change(detect, [image, score], [trace, target, *shown])
        for event in (score.release, target.submit):
            event(_show, [trace, target, score], shown)
    return page


def serve(page: gr.Blocks, port: int | None = None, block: bool = True) -> str:
    """Serve a page to this machine alone; nothing is fetched or reported.

    Args:
        page: The page.
        port: By default the first free one from 7860 on.
        block: Go on serving until Ctrl-C.

    Returns:
        Its address.
    """
    fonts = dict(font=['system-ui', 'sans-serif'], font_mono=['monospace'])
    _, address, _ = page.launch(
        server_port=port,
        prevent_thread_lock=not block,
        share=False,
        show_error=True,
        theme=gr.themes.Default(**fonts),
    )
    return address


def _trace(model: nn.Module, pixels: np.ndarray) -> Trace:
    """Run the detector on (H, W, 3) uint8 RGB pixels.

    Raises:
        gr.Error: If it finds no candidate.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, 'image.png')
        cv2.imwrite(str(path), pixels[..., ::-1])
        try:
            return trace_image(model, str(path))
        except ValueError as error:
            raise gr.Error(str(error)) from error


def _show(trace: Trace | None, target: int | None, score_thr: float) -> list:
    """A picture a tab and the rows of the table; nothing without a trace."""
    if trace is None:
        return [*[None] * len(TABS), []]
    target = min(int(target or 0), len(trace.targets) - 1)
    pictures = [
        _pixels(draw_trace(trace, target, score_thr, panels))
        for panels in TABS.values()
    ]
    found = trace.found[trace.found.scores >= score_thr]
    rows = [
        [trace.classes[label], round(float(score), 3), *box.round().tolist()]
        for box, label, score in zip(found.bboxes, found.labels, found.scores)
    ]
    return [*pictures, rows]


def _pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8 RGB pixels of a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
