"""What ``tools/test.py`` has left in a work dir, ready to be analysed."""

from __future__ import annotations

import contextlib
import io
import json
import os.path as osp
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.fileio import list_from_file

from mmfgl.evaluation.ground_truth import category_ids, read_ground_truth
from mmfgl.evaluation.matching import ImageBoxes
from mmfgl.evaluation.score_threshold import (
    ScoreThreshold,
    best_score_threshold,
    without_duplicates,
)
from mmfgl.utils.checked_runner import leaf_datasets
from mmfgl.utils.paths import follow_move


def image_boxes(
    coco: COCO,
    img_id: Any,
    cat_ids: Sequence[int],
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
) -> ImageBoxes:
    """Predictions and objects of one image of a COCO file.

    Args:
        coco: The annotations.
        img_id: Id of the image.
        cat_ids: Category id of each class.
        boxes: (P, 4) predictions (x1, y1, x2, y2) in original pixels.
        scores: (P,) their scores, in any order.
        labels: (P,) their class indices.
    """
    label_of = {cat: label for label, cat in enumerate(cat_ids)}
    anns = coco.load_anns(coco.get_ann_ids([img_id], cat_ids))
    crowd = np.array([a.get('iscrowd', 0) for a in anns], dtype=bool)
    gt_boxes = np.array([a['bbox'] for a in anns], float).reshape(-1, 4)
    gt_boxes[:, 2:] += gt_boxes[:, :2]
    gt_labels = np.array([label_of[a['category_id']] for a in anns], int)
    order = np.argsort(-np.asarray(scores, dtype=float), kind='stable')
    info = coco.imgs[img_id]
    return ImageBoxes(
        boxes=np.asarray(boxes, dtype=float).reshape(-1, 4)[order],
        scores=np.asarray(scores, dtype=float)[order],
        labels=np.asarray(labels, dtype=int)[order],
        gt_boxes=gt_boxes[~crowd],
        gt_labels=gt_labels[~crowd],
        crowd_boxes=gt_boxes[crowd],
        crowd_labels=gt_labels[crowd],
        size=(info.get('width') or 1, info.get('height') or 1),
    )


@dataclass
class TestResults:
    """Predictions of a test beside the truth. C classes, I images.

    Attributes:
        work_dir: The folder they were read from.
        metrics: What the evaluator measured, name -> value.
        config: The config of the test, all overrides applied.
        classes: Names of the C classes.
        cat_ids: Category id of each class.
        coco: The annotations.
        img_ids: Ids of the I images.
        paths: (I,) image files.
        predictions: Rows of ``predictions.bbox.json``.
    """

    __test__ = False  # no test case, whatever pytest thinks of its name

    work_dir: Path
    metrics: dict[str, Any]
    config: Config
    classes: list[str]
    cat_ids: list[int]
    coco: COCO
    img_ids: list
    paths: list[str]
    predictions: list[dict]

    @cached_property
    def images(self) -> list[ImageBoxes]:
        """(I,) predictions and objects."""
        label_of = {cat: label for label, cat in enumerate(self.cat_ids)}
        rows = defaultdict(list)
        for row in self.predictions:
            if row['category_id'] in label_of:
                rows[row['image_id']].append(row)
        images = []
        for img_id in self.img_ids:
            own = rows.get(img_id, [])
            boxes = np.array([r['bbox'] for r in own], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            images.append(
                image_boxes(
                    self.coco,
                    img_id,
                    self.cat_ids,
                    boxes,
                    np.array([row['score'] for row in own]),
                    np.array([label_of[row['category_id']] for row in own]),
                )
            )
        return images

    @cached_property
    def shown(self) -> list[ImageBoxes]:
        """(I,) images after class-agnostic NMS: what is worth showing."""
        return [without_duplicates(image) for image in self.images]

    @cached_property
    def threshold(self) -> ScoreThreshold:
        """The score threshold of highest F1 for :attr:`shown`."""
        return best_score_threshold(self.shown)

    def class_aps(self) -> dict[str, np.ndarray]:
        """AP, AP50 and AP75 of each class: (C,) in [0, 1], NaN if undefined.

        As COCO defines them, up to 1000 detections an image, as in mmdet.
        """
        items = {'AP': slice(None), 'AP50': slice(0, 1), 'AP75': slice(5, 6)}
        num_classes = len(self.classes)
        if not self.predictions:
            counts = np.zeros(num_classes)
            for image in self.images:
                np.add.at(counts, image.gt_labels, 1)
            zeros = np.where(counts > 0, 0.0, np.nan)
            return {name: zeros.copy() for name in items}
        with contextlib.redirect_stdout(io.StringIO()):
            found = self.coco.loadRes([dict(row) for row in self.predictions])
            coco_eval = COCOeval(self.coco, found, 'bbox')
            params = coco_eval.params
            params.catIds, params.imgIds = self.cat_ids, self.img_ids
            params.maxDets = [100, 300, 1000]
            params.areaRng = params.areaRng[:1]
            params.areaRngLbl = params.areaRngLbl[:1]
            coco_eval.evaluate()
            coco_eval.accumulate()
        # (IoU, recall, class, all areas, most detections), by ascending id
        precision = coco_eval.eval['precision'][:, :, :, 0, -1]
        precision = precision[:, :, np.argsort(np.argsort(self.cat_ids))]
        precision = np.where(precision < 0, np.nan, precision)
        return {n: precision[part].mean((0, 1)) for n, part in items.items()}


def read_test_results(work_dir: str | Path) -> TestResults:
    """Read a work dir of ``tools/test.py``, and the annotations it names.

    What lay in a folder that was moved or copied with it is found there.

    Raises:
        FileNotFoundError: A file is not there; says which and what to do.
        ValueError: The predictions belong to other annotations.
    """
    work_dir = Path(work_dir)
    for name in ('config.py', 'metrics.json', 'predictions.bbox.json'):
        if not (work_dir / name).is_file():
            raise FileNotFoundError(
                f'{work_dir} has no {name}: give the work dir of a finished '
                'test (tools/test.py CONFIG CHECKPOINT --work-dir DIR) on one '
                'COCO data set.'
            )
    config = Config.fromfile(work_dir / 'config.py')
    was = config.get('work_dir') or ''
    if config.get('load_from'):
        folder, name = osp.split(config.load_from)
        config.load_from = osp.join(follow_move(folder, was, work_dir), name)
    dataset = next(leaf_datasets(config.test_dataloader.dataset))
    root = dataset.get('data_root') or ''
    evaluators = config.test_evaluator
    if isinstance(evaluators, dict):
        evaluators = [evaluators]
    files = [e['ann_file'] for e in evaluators if e.get('ann_file')]
    ann_file = files[0] if files else osp.join(root, dataset['ann_file'])
    ann_file = follow_move(ann_file, was, work_dir)
    if not osp.isfile(ann_file):
        raise FileNotFoundError(
            f'{work_dir}/config.py names the annotation file {ann_file}, '
            'which is not there. Run this in the folder where the test ran, '
            'or put the file back.'
        )
    coco = read_ground_truth(ann_file)
    classes = _classes(dataset)
    predictions = json.loads((work_dir / 'predictions.bbox.json').read_text())
    if strange := {row['image_id'] for row in predictions} - set(coco.imgs):
        raise ValueError(
            f'{work_dir}/predictions.bbox.json has boxes in {len(strange)} '
            f'images that {ann_file} does not list: the file has changed '
            'since. Run the test again.'
        )
    prefix = (dataset.get('data_prefix') or {}).get('img') or ''
    folder = follow_move(osp.join(root, prefix), was, work_dir)
    infos = list(coco.imgs.values())
    return TestResults(
        work_dir=work_dir,
        metrics=json.loads((work_dir / 'metrics.json').read_text()),
        config=config,
        classes=classes,
        cat_ids=category_ids(coco, classes),
        coco=coco,
        img_ids=[info['id'] for info in infos],
        paths=[osp.join(folder, info['file_name']) for info in infos],
        predictions=predictions,
    )


def _classes(dataset: dict) -> list[str]:
    """Classes of a data set config: its own, or those of its type."""
    classes = (dataset.get('metainfo') or {}).get('classes')
    if classes is None:
        register_all_modules(init_default_scope=False)
        kind = str(dataset['type']).rpartition('.')[2]
        classes = DATASETS.get(kind).METAINFO['classes']
    if isinstance(classes, str):
        return list_from_file(classes)
    return list(classes)
