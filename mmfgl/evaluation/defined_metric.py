"""COCO metric whose results are always there and always numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from mmdet.evaluation import CocoMetric
from mmengine.logging import MMLogger

from mmfgl.evaluation.ground_truth import category_ids, read_ground_truth
from mmfgl.registry import METRICS

AP_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
# pixels, of COCO's small, medium and large objects
AREAS = dict(s=(0, 32**2), m=(32**2, 96**2), l=(96**2, math.inf))
RECALL_ITEMS = (
    *('AR@100', 'AR@300', 'AR@1000'),
    *('AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
)


@METRICS.register_module()
class DefinedCocoMetric(CocoMetric):
    """:class:`mmdet.CocoMetric` that gives a number for every key.

    Its results are those of CocoMetric, but:

    - a detector that finds nothing has AP and recall 0 (CocoMetric returns
      no key, which stops a run that keeps its best checkpoint);
    - what cannot be measured is -1, as COCO says it, never NaN: no image, no
      object, crowd regions alone, an area range or (``classwise``) a class
      without objects. Classes without objects do not enter the mean;
    - the file is read by :func:`.read_ground_truth`, so that annotation ids
      from 0, double or missing ones do not change the result;
    - classes are found by name: a file that lacks one is an error before
      training, not results under wrong names;
    - predictions that are not finite are left out and counted in the log;
      a predicted box without area is wrong wherever it lies.

    Arguments are those of CocoMetric.
    """

    def __init__(
        self,
        ann_file: str | None = None,
        *args,
        sort_categories: bool = False,
        backend_args: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(None, *args, backend_args=backend_args, **kwargs)
        # a config gives lists or one number, COCOeval wants an array
        self.iou_thrs = np.atleast_1d(np.asarray(self.iou_thrs, float))
        self.num_invalid = 0
        if ann_file is not None:
            self._coco_api = read_ground_truth(
                ann_file, backend_args, sort_categories
            )

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set, with its ``classes``."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict) -> None:
        self._dataset_meta = dataset_meta
        if self._coco_api is not None and dataset_meta:
            self.cat_ids = category_ids(
                self._coco_api, dataset_meta['classes']
            )
            if self.classwise and self.cat_ids != sorted(self.cat_ids):
                # COCOeval sorts them, CocoMetric names them as they come
                raise ValueError(
                    f'the category ids {self.cat_ids[:10]} of the classes do '
                    'not ascend, so classwise=True would give their APs to '
                    'other classes: number the categories in their order'
                )

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch that can be ranked."""
        first = len(self.results)
        super().process(data_batch, data_samples)
        for _, pred in self.results[first:]:
            boxes = pred['bboxes'] = pred['bboxes'].astype(float)
            keep = np.isfinite(boxes).all(axis=1) & np.isfinite(pred['scores'])
            # two boxes without area have no IoU, which COCOeval takes for 1
            np.maximum(boxes[:, 2:], boxes[:, :2] + 1e-3, out=boxes[:, 2:])
            if not keep.all():
                self.num_invalid += int((~keep).sum())
                for key in ('bboxes', 'scores', 'labels', 'mask_scores'):
                    if key in pred:
                        pred[key] = pred[key][keep]
                if 'masks' in pred:
                    pairs = zip(pred['masks'], keep, strict=True)
                    pred['masks'] = [mask for mask, kept in pairs if kept]

    def compute_metrics(self, results: list) -> dict:
        """CocoMetric's results, all of them numbers, without prefix.

        ``results`` are (ground truth, prediction) pairs, one an image.
        """
        logger: MMLogger = MMLogger.get_current_instance()
        if self.num_invalid:
            logger.warning(
                f'{self.num_invalid} predictions of this process are not '
                'finite and were left out: look for NaN in the weights'
            )
            self.num_invalid = 0
        empty = not any(len(pred['scores']) for _, pred in results)
        metrics = super().compute_metrics(results) if results else {}
        if empty and not self.format_only:
            logger.warning('no prediction in the whole data set')
            metrics.update(self._without_predictions())
        return {
            key: -1.0 if isinstance(v, float) and math.isnan(v) else v
            for key, v in metrics.items()
        }

    def _without_predictions(self) -> dict:
        """The keys of CocoMetric, 0 where there is an object and else -1."""
        areas = self._object_areas()
        every = sum(areas.values(), [])
        metrics = {}
        for metric in self.metrics:
            if metric == 'proposal_fast':  # CocoMetric has counted it
                continue
            items = RECALL_ITEMS if metric == 'proposal' else AP_ITEMS
            prefix = '' if metric == 'proposal' else f'{metric}_'
            if self.classwise and prefix:
                for name, of_class in areas.items():
                    metrics[f'{name}_precision'] = _least('mAP', of_class)
            for item in self.metric_items or items:
                metrics[prefix + item] = _least(item, every)
        return metrics

    def _object_areas(self) -> dict[str, list[float]]:
        """Areas of the objects, without crowd regions, by class name."""
        coco = self._coco_api
        if coco is None or self.cat_ids is None:  # nothing was evaluated
            return {}
        return {
            coco.cats[cat]['name']: [
                annotation['area']
                for annotation in coco.load_anns(
                    coco.get_ann_ids(cat_ids=[cat], iscrowd=False)
                )
            ]
            for cat in self.cat_ids
        }


def _least(item: str, areas: Sequence[float]) -> float:
    """Worst value of an item of COCO: 0, or -1 without objects of its size."""
    size = re.search(r'_([sml])(?:@|$)', item)
    low, high = AREAS[size.group(1)] if size else (0, math.inf)
    return 0.0 if any(low <= area <= high for area in areas) else -1.0
