"""What a pretraining sees of an image: views, regions and pseudo-objects.

Shape shorthand: V views, N regions, M pseudo-objects of all views.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmfgl.datasets.image_reader import read_image
from mmfgl.datasets.transforms.view_maps import map_boxes

SIDE = 3.4  # inches of a panel
GOLDEN = 0.61803  # steps of the hue by it keep neighbours apart


@dataclass
class SeenImage:
    """One image as the data pipeline of a pretraining hands it over.

    Attributes:
        name: The image's file, below the data set's folder.
        image: (H, W, 3) RGB uint8 image.
        views: V views, (h, w, 3) RGB uint8.
        affines: (V, 2, 3) maps of image pixels to pixels of the view.
        regions: (V, N, 4) regions in pixels of the view.
        objects: (M, 5) rows (view, x1, y1, x2, y2), pixels of that view.
        labels: (M,) their clusters.
    """

    name: str
    image: np.ndarray
    views: list[np.ndarray]
    affines: np.ndarray
    regions: np.ndarray
    objects: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, packed: dict, folder: str = '') -> SeenImage:
        """From what :class:`mmfgl.datasets.transforms.PackRegionViews` gives.

        Args:
            packed: ``inputs`` and ``data_samples`` of one image.
            folder: Folder that the name leaves out.

        Raises:
            UnreadableImageError: The file cannot be read any more.
        """
        sample = packed['data_samples']
        none = np.zeros((0, 5), np.float32)
        objects = sample.objects.numpy() if 'objects' in sample else none
        labels = np.zeros(0, np.int64)
        if 'object_labels' in sample:
            labels = sample.object_labels.numpy()
        path = Path(sample.img_path)
        below = folder and path.is_relative_to(folder)
        return cls(
            name=str(path.relative_to(folder) if below else path),
            image=read_image(sample.img_path)[..., ::-1],
            views=[
                np.ascontiguousarray(
                    view.numpy().transpose(1, 2, 0)[..., ::-1]
                )
                for view in packed['inputs']
            ],
            affines=np.asarray(sample.affines),
            regions=sample.boxes.numpy(),
            objects=objects,
            labels=labels,
        )


def draw_seen(images: Sequence[SeenImage], clusters: int) -> Figure:
    """A contact sheet: images, beside each its views.

    Pseudo-objects have the colour of their cluster and, if there are several
    clusters, its number; regions are dashed. In the image are the views'
    frames, and the pseudo-objects of all views.

    Args:
        images: The images, one at least, with equally many views.
        clusters: Number of clusters, 0 or 1 if unknown.
    """
    width = 1 + len(images[0].views)
    across = 2 if width == 2 else 1  # images beside each other
    lines = -(-len(images) // across)
    figure = Figure(
        figsize=(SIDE * width * across, SIDE * lines + 0.5),
        layout='constrained',
    )
    title = 'boxes: pseudo-objects'
    if clusters > 1:
        title += f', colour and number = one of {clusters} clusters'
    if images[0].regions.shape[1]:
        title += '; dashed: regions'
    figure.suptitle(f'{title}; frames in the image: its views', fontsize=10)
    panels = figure.subplots(lines, width * across, squeeze=False)
    panels = panels.reshape(lines * across, width)
    for axes in panels[len(images) :].flat:
        axes.set_axis_off()
    for row, seen in zip(panels, images):
        _draw_image(row[0], seen, clusters > 1)
        for view, axes in enumerate(row[1:]):
            _draw_view(axes, seen, view, clusters > 1)
    return figure


def draw_clusters(
    crops: dict[int, list[np.ndarray]],
    counts: dict[int, int],
    per_row: int,
) -> Figure:
    """Example crops of clusters, a cluster a row.

    Args:
        crops: (h, w, 3) RGB uint8 crops by cluster.
        counts: Number of boxes by cluster.
        per_row: Columns of the sheet.
    """
    rows = len(crops)
    figure = Figure(figsize=(1.1 * per_row + 1.2, 1.15 * rows + 0.4))
    title = 'examples of the largest clusters'
    if len(counts) == 1:
        title = 'no clusters: examples of all boxes'
    figure.suptitle(title, fontsize=10, y=1 - 0.1 / figure.get_figheight())
    panels = figure.subplots(rows, per_row + 1, squeeze=False)
    for row, (label, members) in zip(panels, crops.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, crop in zip(row[1:], members):
            axes.imshow(crop)
        frame = dict(facecolor='none', edgecolor=colour(label), linewidth=3)
        text = f'{label}\n{counts[label]} boxes'
        style = dict(fontsize=8, ha='center', va='center', bbox=frame)
        row[0].text(0.5, 0.5, text, **style)
    figure.subplots_adjust(
        left=0.01,
        right=0.99,
        bottom=0.01,
        top=1 - 0.4 / figure.get_figheight(),
        wspace=0.06,
        hspace=0.06,
    )
    return figure


def colour(label: int) -> tuple[float, float, float]:
    """Colour of a cluster, always the same."""
    return colorsys.hsv_to_rgb((0.33 + label * GOLDEN) % 1, 0.9, 1.0)


def _draw_image(axes: Axes, seen: SeenImage, numbered: bool) -> None:
    for view, affine in enumerate(seen.affines):
        back = _inverse(affine)
        mine = seen.objects[:, 0] == view
        boxes = map_boxes(seen.objects[mine, 1:], back)
        _draw_objects(axes, boxes, seen.labels[mine], numbered)
        sides = seen.views[view].shape[1::-1]
        frame = map_boxes(np.array([[0, 0, *sides]], np.float32), back)
        for width, ink in ((3.5, 'black'), (1.5, 'white')):
            _box(axes, frame[0], edgecolor=ink, linewidth=width, zorder=3)
        axes.annotate(
            f'view {view + 1}',
            frame[0, :2],
            xytext=(3, -3),
            textcoords='offset points',
            va='top',
            **_label('white'),
        )
    _show(axes, seen.image, seen.name)


def _draw_view(axes: Axes, seen: SeenImage, view: int, numbered: bool) -> None:
    for box in seen.regions[view]:
        _box(axes, box, edgecolor='black', linewidth=2.2, alpha=0.6)
        _box(axes, box, edgecolor='white', linewidth=1.2, linestyle='--')
    mine = seen.objects[:, 0] == view
    boxes, labels = seen.objects[mine, 1:], seen.labels[mine]
    _draw_objects(axes, boxes, labels, numbered)
    title = f'view {view + 1}: {len(boxes)} pseudo-objects'
    if seen.regions.shape[1]:
        title += f', {seen.regions.shape[1]} regions'
    _show(axes, seen.views[view], title)


def _draw_objects(
    axes: Axes, boxes: np.ndarray, labels: np.ndarray, numbered: bool
) -> None:
    # the largest first, so that small ones lie above
    order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    for box, label in zip(boxes[order], labels[order].tolist()):
        _box(axes, box, edgecolor='black', linewidth=2.4, alpha=0.5)
        _box(axes, box, edgecolor=colour(label), linewidth=1.3)
        if numbered:
            axes.text(*box[:2], label, va='top', **_label(colour(label)))


def _label(ink: str | tuple) -> dict:
    """Style of a small label that is readable on any picture."""
    box = dict(facecolor=ink, edgecolor='none', pad=0.8, alpha=0.85)
    return dict(fontsize=6, color='black', bbox=box, clip_on=True)


def _box(axes: Axes, box: np.ndarray, **style) -> None:
    x1, y1, x2, y2 = box.tolist()
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set_axis_off()
    short = title if len(title) <= 44 else f'...{title[-41:]}'
    axes.set_title(short, fontsize=8)


def _inverse(affine: np.ndarray) -> np.ndarray:
    """(2, 3) map back to the image."""
    back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))
    return back[:2]
