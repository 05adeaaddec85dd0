"""What a run leaves in its work dir for :func:`mmfgl.report`."""

from __future__ import annotations

import json
import logging
import os.path as osp
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmfgl.registry import HOOKS
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.checked_runner import leaf_datasets
from mmfgl.utils.machine import machine_settings


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Keeps command, versions, config, metrics and predictions of a run.

    The main process writes into the work dir

    - ``config.py``: the config, all overrides applied;
    - ``run.json``: ``command`` and ``versions``;

    and after a test

    - ``predictions.bbox.json``: boxes of the test set in the format of COCO
      results, (x, y, width, height) in original pixels; masks are left out.
      A data set without COCO's category ids has none, and the log says so;
    - ``metrics.json``: what the evaluator measured, under its names, and
      ``seconds_per_image``, the mean wall time of all processes together.
    """

    @master_only
    def before_run(self, runner: Runner) -> None:
        """Write config and command."""
        runner.cfg.dump(osp.join(runner.work_dir, 'config.py'))
        command = shlex.join(['python', *sys.argv])
        content = dict(command=command, versions=machine_settings())
        _write_json(runner, 'run.json', content)

    def before_test(self, runner: Runner) -> None:
        """Collect predictions beside the evaluator's own metrics."""
        evaluator = runner.test_evaluator
        datasets = list(leaf_datasets(runner.test_dataloader.dataset))
        ids = getattr(datasets[0], 'cat_ids', None)
        if len(datasets) > 1 or ids is None:
            print_log(
                'no predictions.bbox.json of this test: the test data is not '
                'one COCO data set',
                'current',
                logging.WARNING,
            )
        elif not any(isinstance(m, BoxRecord) for m in evaluator.metrics):
            path = osp.join(runner.work_dir, 'predictions.bbox.json')
            evaluator.metrics.append(BoxRecord(ids, path))

    @master_only
    def after_test_epoch(
        self, runner: Runner, metrics: dict[str, Any] | None = None
    ) -> None:
        """Write the metrics."""
        content = dict(metrics or {})
        # of IterTimerHook: seconds a batch
        times = runner.message_hub.log_scalars.get('test/time')
        if times is not None:
            loader = runner.test_dataloader  # the last batch may be smaller
            seconds = float(times.mean()) * len(loader)
            content['seconds_per_image'] = seconds / len(loader.dataset)
        _write_json(runner, 'metrics.json', content)


class BoxRecord(BaseMetric):
    """Writes the predicted boxes of a test, as COCO results.

    It measures nothing. Predictions of all processes are gathered, those of
    images that fill up the last batches and those that are not finite left
    out.

    Args:
        cat_ids: Category id of each class.
        path: The JSON file.
    """

    def __init__(self, cat_ids: Sequence[int], path: str) -> None:
        super().__init__()
        self.cat_ids = cat_ids
        self.path = path

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the predictions of a batch."""
        for sample in data_samples:
            found = sample['pred_instances']
            boxes, scores = found['bboxes'].double(), found['scores']
            keep = boxes.isfinite().all(dim=1) & scores.isfinite()
            boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
            columns = zip(
                *(x[keep].tolist() for x in (boxes, scores, found['labels'])),
                strict=True,
            )
            self.results.append(
                [
                    dict(
                        image_id=sample['img_id'],
                        category_id=self.cat_ids[label],
                        bbox=[round(value, 2) for value in box],
                        score=round(score, 5),
                    )
                    for box, score, label in columns
                ]
            )

    def compute_metrics(self, results: list) -> dict:
        """Write the file; there is nothing to measure."""
        rows = [row for rows in results for row in rows]
        write_atomically(json.dumps(rows).encode(), self.path)
        return {}


def _write_json(runner: Runner, name: str, content: dict) -> None:
    text = json.dumps(content, indent=1, default=float)
    path = osp.join(runner.work_dir, name)
    write_atomically(f'{text}\n'.encode(), path)
