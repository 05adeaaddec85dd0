"""Objects in images, found by a detector that a run has trained."""

from __future__ import annotations

import glob
import json
import os.path as osp
from pathlib import Path

import cv2
import mmcv
import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import get_test_pipeline_cfg
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.utils import track_iter_progress

from mmfgl.datasets.guarded_pipeline import inference_pipeline
from mmfgl.datasets.image_names import find_images
from mmfgl.datasets.image_reader import UnreadableImageError, read_image
from mmfgl.evaluation.score_threshold import SHOWN_IOU
from mmfgl.recipes.results import read_results
from mmfgl.recipes.trained import find_trained, load_detector
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.names import IMG_EXTENSIONS, printable, without_formulas
from mmfgl.utils.quiet import hushed
from mmfgl.visualization import PictureHook
from mmfgl.visualization.picture_hook import writable

PICTURES, PREDICTIONS = 'pictures', 'predictions.json'  # of ``out``


def predict(
    run_dir: str | Path,
    images: str | Path,
    *,
    out: str | Path,
    score_thr: float | None = None,
    tta: bool = False,
) -> dict:
    """Find objects in images with the better detector of a run.

    That is the one of the higher AP in validation. Of boxes that overlap by
    more than an IoU of 0.6, whatever their classes, the best is kept.

    Args:
        run_dir: Folder of a finished :func:`mmfgl.run`.
        images: A folder with its sub-folders, a file, or a pattern.
        out: Folder for ``pictures/`` and ``predictions.json``.
        score_thr: Least score of what is kept; by default the one of the
            highest F1 in validation.
        tta: Whether to use test-time augmentation.

    Returns:
        The content of ``predictions.json``, which is COCO's: ``images``,
        ``categories`` and ``annotations`` with ``bbox`` as (x, y, width,
        height) in pixels of the upright image and ``score``; besides
        ``score_thr``, ``detector``, and ``unreadable``, name -> reason.

    Raises:
        FileNotFoundError: There are no such images, or the run is not
            finished.
        ValueError: ``score_thr`` is out of range, or no image is readable.
    """
    run_dir, out = Path(run_dir), Path(out)
    results = read_results(run_dir)
    arm, mode = results['best'], 'tta' if tta else 'plain'
    if score_thr is None:
        score_thr = results['arms'][arm][mode]['score_thr']
    if not 0 <= score_thr <= 1:
        raise ValueError(f'--score-thr must lie in [0, 1], got {score_thr}')
    root, names = find_names(images, out)
    with hushed():
        detector = Detector(run_dir, tta)
    found: list[dict] = []
    entries: list[dict] = []
    unreadable: dict[str, str] = {}
    content = dict(
        images=entries,
        categories=detector.categories,
        annotations=found,
        score_thr=score_thr,
        detector=arm,
        unreadable=unreadable,
    )
    try:
        for number, name in enumerate(track_iter_progress(names), 1):
            path = osp.join(root, name)
            try:
                image, sample = detector(path)
            except UnreadableImageError as error:
                unreadable[name] = error.reason
                continue
            sample = detector.to_show(sample, score_thr)
            with hushed():  # of boxes that touch the border
                detector.draw(image, sample, out / PICTURES / writable(name))
            height, width = image.shape[:2]
            entry = dict(id=number, file_name=name, width=width, height=height)
            entries.append(entry)
            found += detector.annotations(sample, number, len(found))
    finally:  # an error or Ctrl-C loses nothing
        if entries:
            text = json.dumps(content, indent=1)
            write_atomically(f'{text}\n'.encode(), out / PREDICTIONS)
        print()
        for name, reason in unreadable.items():
            print(f'unreadable: {printable(name)}: {reason}')
        if len(entries) + len(unreadable) < len(names):
            print(f'ended early: {len(entries)} of {len(names)} images done')
    if not entries:
        raise ValueError(f'none of the {len(names)} images can be read')
    print(
        f'{len(found)} objects of score {score_thr:g} or more in '
        f'{len(entries)} images, {len(unreadable)} unreadable: '
        f'{out / PICTURES}, {out / PREDICTIONS}'
    )
    if not found:
        print('Nothing was found; a lower --score-thr shows more.')
    return content


def find_names(images: str | Path, out: Path) -> tuple[str, list[str]]:
    """Images of a folder, a file or a pattern, but not those drawn here.

    Returns:
        A folder, and names relative to it.

    Raises:
        FileNotFoundError: There are none.
    """
    text = str(images)
    if osp.isdir(text):
        root = text
        names = find_images(text).names
    else:
        files = [text] if osp.isfile(text) else glob.glob(text, recursive=True)
        files = sorted(filter(osp.isfile, files))
        if len(files) > 1:
            files = [f for f in files if f.lower().endswith(IMG_EXTENSIONS)]
        files = list(map(osp.abspath, files))
        root = osp.commonpath(map(osp.dirname, files)) if files else ''
        names = [osp.relpath(file, root) for file in files]
    names = [name for name in names if not _is_drawn(Path(root, name), out)]
    if not names:
        raise FileNotFoundError(
            f'no image found in {text}: give a folder, a file or a pattern '
            f'of {", ".join(IMG_EXTENSIONS)} (but not {out / PICTURES}, which '
            'this command writes)'
        )
    return root, names


def _is_drawn(path: Path, out: Path) -> bool:
    """Whether a picture is of this command, of ``out`` or another folder."""
    return any(
        folder.name == PICTURES
        and (
            folder.parent == out.absolute()
            or (folder.parent / PREDICTIONS).is_file()
        )
        for folder in Path(osp.abspath(path)).parents
    )


class Detector:
    """The best detector of a run.

    Args:
        run_dir: Folder of the run.
        tta: Whether to use test-time augmentation.

    Attributes:
        categories: COCO categories of its classes.
    """

    def __init__(self, run_dir: Path, tta: bool) -> None:
        self.model = load_detector(find_trained(run_dir))
        cfg = self.model.cfg
        steps = cfg.tta_pipeline if tta else get_test_pipeline_cfg(cfg)
        self.pipeline = inference_pipeline(steps)
        self.predictor = self.model
        if tta:
            model = ConfigDict(**cfg.tta_model, module=self.model)
            self.predictor = MODELS.build(model).eval()
        path = run_dir / 'data' / 'annotations' / 'val.json'
        content = json.loads(path.read_text(encoding='utf-8'))
        ids = {c['name']: c['id'] for c in content['categories']}
        classes = cfg.metainfo.classes
        self.categories = [dict(id=ids[n], name=n) for n in classes]
        self.visualizer = DetLocalVisualizer.get_instance('predict')
        shown = tuple(map(without_formulas, classes))
        self.visualizer.dataset_meta = dict(classes=shown, palette='random')
        self.duplicates = PictureHook(nms_iou=SHOWN_IOU)

    @torch.no_grad()
    def __call__(self, path: str) -> tuple[np.ndarray, DetDataSample]:
        """Find the objects of an image.

        Returns:
            (H, W, 3) RGB uint8 image, and the data sample with predictions
            in its pixels.

        Raises:
            UnreadableImageError: The image cannot be used.
        """
        image = read_image(path)
        try:
            data = self.pipeline(dict(img_path=path, img_id=0))
        except cv2.error as error:  # too thin, say
            raise UnreadableImageError(str(error), path) from error
        (sample,) = self.predictor.test_step(pseudo_collate([data]))
        return mmcv.bgr2rgb(image), sample

    def to_show(
        self, sample: DetDataSample, score_thr: float
    ) -> DetDataSample:
        """Predictions from a score on, of those in one place the best."""
        sample = sample.cpu()
        keep = sample.pred_instances.scores >= score_thr
        sample.pred_instances = sample.pred_instances[keep]
        return self.duplicates.without_duplicates(sample)

    def draw(
        self, image: np.ndarray, sample: DetDataSample, path: Path
    ) -> None:
        """Draw the predictions of a sample into an (H, W, 3) RGB image."""
        self.visualizer.add_datasample(
            path.name,
            image,
            sample,
            draw_gt=False,
            pred_score_thr=0.0,
            out_file=str(path),
        )

    def annotations(
        self, sample: DetDataSample, image: int, start: int
    ) -> list[dict]:
        """COCO annotations of a sample, numbered from ``start`` + 1."""
        found = sample.pred_instances
        boxes = found.bboxes.double().clone()
        boxes[:, 2:] -= boxes[:, :2]
        columns = (boxes, found.scores, found.labels)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        return [
            dict(
                id=start + number,
                image_id=image,
                category_id=self.categories[label]['id'],
                bbox=[round(value, 2) for value in box],
                area=round(box[2] * box[3], 2),
                iscrowd=0,
                score=round(score, 4),
            )
            for number, (box, score, label) in enumerate(rows, 1)
        ]
