"""COCO metric that also tells errors of class from errors of localisation."""

import contextlib
import io

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval
from mmengine.fileio import dump
from mmengine.logging import MMLogger
from terminaltables import AsciiTable

from mmfgl.evaluation.confusion import confused_pairs, plot_confusion
from mmfgl.evaluation.defined_metric import DefinedCocoMetric
from mmfgl.evaluation.matching import ImageBoxes, MatchStatistics
from mmfgl.evaluation.test_results import image_boxes
from mmfgl.evaluation.tide import ERROR_TYPES, tide_report
from mmfgl.registry import METRICS


@METRICS.register_module()
class FGLMetric(DefinedCocoMetric):
    """:class:`DefinedCocoMetric` plus statistics for look-alike classes.

    All of CocoMetric's results stay, under the same keys. Added, from boxes
    (also where masks are evaluated):

    - ``agnostic_mAP``, ``agnostic_mAP_50``, ``agnostic_mAP_75``: COCO AP as
      if there were one class: localisation alone;
    - ``class_accuracy``, ``box_mse``, ``num_matched``: top-1 accuracy, mean
      squared error of the coordinates (normalised by the image's sides), and
      number of the objects that were matched
      (:class:`mmfgl.evaluation.MatchStatistics`);
    - ``tide_cls``, ``tide_loc``, ``tide_both``, ``tide_dupe``, ``tide_bkg``,
      ``tide_miss``: AP50 lost to each type of error, and ``error_counts``,
      their numbers (:func:`mmfgl.evaluation.tide_report`);
    - ``most_confused``: the class pairs most often taken for each other.

    APs lie in [0, 1]; -1 says that there was nothing to measure. With
    ``outfile_prefix`` the statistics and the confusion counts are written to
    ``PREFIX.fgl.json`` and drawn in ``PREFIX.confusion.png``. Nothing is
    added with ``format_only`` or for proposals alone. Arguments
    are those of CocoMetric.
    """

    TOP_CONFUSED = 5

    def compute_metrics(self, results: list) -> dict:
        """CocoMetric's results and the statistics, without prefix.

        ``results`` are (ground truth, prediction) pairs, one an image.
        """
        metrics = super().compute_metrics(results)
        if self.format_only or not {'bbox', 'segm'} & set(self.metrics):
            return metrics
        if not results:  # not even an image
            return metrics
        images = self._images(results)
        metrics.update(self._agnostic_ap(images))
        metrics.update(self._statistics(images))
        return metrics

    def _images(self, results: list) -> list[ImageBoxes]:
        """Boxes of every image of the annotations, predicted or not."""
        found = {pred['img_id']: pred for _, pred in results}
        images = []
        for img_id in self.img_ids:
            pred = found.get(img_id, {})
            columns = [
                pred.get(key, ()) for key in ('bboxes', 'scores', 'labels')
            ]
            images.append(
                image_boxes(self._coco_api, img_id, self.cat_ids, *columns)
            )
        return images

    def _agnostic_ap(self, images: list[ImageBoxes]) -> dict:
        """COCO AP of boxes with all classes as one."""
        keys = [f'agnostic_mAP{suffix}' for suffix in ('', '_50', '_75')]
        if not any(len(image.gt_boxes) for image in images):
            return dict.fromkeys(keys, -1.0)
        if not any(len(image.boxes) for image in images):
            return dict.fromkeys(keys, 0.0)
        detections = [
            dict(
                image_id=img_id,
                category_id=self.cat_ids[label],
                bbox=self.xyxy2xywh(box),
                score=score,
            )
            for img_id, image in zip(self.img_ids, images, strict=True)
            for box, score, label in zip(
                image.boxes, image.scores, image.labels, strict=True
            )
        ]
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._coco_api.loadRes(detections)
            coco_eval = COCOeval(self._coco_api, found, 'bbox')
            params = coco_eval.params
            params.useCats = 0
            params.catIds, params.imgIds = self.cat_ids, self.img_ids
            params.maxDets = list(self.proposal_nums)
            params.iouThrs = np.atleast_1d(self.iou_thrs)
            params.areaRng = params.areaRng[:1]
            params.areaRngLbl = params.areaRngLbl[:1]
            coco_eval.evaluate()
            coco_eval.accumulate()
        # (IoU, recall, one class, all areas, most detections)
        aps = coco_eval.eval['precision'][:, :, 0, 0, -1].mean(axis=1)
        values = [aps.mean()]
        for threshold in (0.5, 0.75):
            at = np.isclose(params.iouThrs, threshold)
            values.append(aps[at][0] if at.any() else -1.0)
        values = [round(float(value), 3) for value in values]
        return dict(zip(keys, values, strict=True))

    def _statistics(self, images: list[ImageBoxes]) -> dict:
        """Matched boxes, error types and confused classes."""
        names = [self._coco_api.cats[cat]['name'] for cat in self.cat_ids]
        matched = MatchStatistics(len(names)).update(images)
        tide = tide_report(images, len(names))
        pairs = confused_pairs(matched.confusion, names, self.TOP_CONFUSED)
        metrics = dict(
            class_accuracy=round(matched.class_accuracy, 4),
            box_mse=float(f'{matched.box_mse:.4g}'),
            num_matched=matched.num_matched,
            **{f'tide_{kind}': round(tide.dap[kind], 4) for kind in tide.dap},
            error_counts=tide.counts,
            most_confused=pairs,
        )
        logger: MMLogger = MMLogger.get_current_instance()
        rows = [[k, tide.counts[k], f'{tide.dap[k]:.4f}'] for k in ERROR_TYPES]
        table = AsciiTable([['error', 'number', 'AP50 lost'], *rows])
        logger.info(f'Errors (TIDE), AP50 {tide.ap:.4f}\n{table.table}')
        logger.info(
            f'{matched.num_matched} of {matched.num_objects} objects matched, '
            f'class accuracy {matched.class_accuracy:.4f}, '
            f'box MSE {matched.box_mse:.4g}'
        )
        line = '{true} taken for {predicted}: {count} times, {share:.1%}'
        for pair in pairs:
            logger.info(line.format(**pair) + ' of its objects')
        if (prefix := self.outfile_prefix) is not None:
            counts = dict(confusion=matched.confusion.tolist())
            dump(metrics | counts | dict(classes=names), f'{prefix}.fgl.json')
            plot_confusion(matched.confusion, names, f'{prefix}.confusion.png')
            logger.info(f'Saved {prefix}.fgl.json and .confusion.png')
        return metrics
