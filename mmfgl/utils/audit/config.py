"""The audit of every annotation file that a config will read."""

from __future__ import annotations

import logging
import os.path as osp
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.logging import print_log

from mmfgl.utils.audit.classes import check_num_classes
from mmfgl.utils.audit.coco import Use, audit_coco, write_mended
from mmfgl.utils.audit.evaluators import compare_evaluator
from mmfgl.utils.audit.leaks import shared_images
from mmfgl.utils.audit.ranks import once_a_machine
from mmfgl.utils.audit.report import EXAMPLES, AuditReport
from mmfgl.utils.audit.uses import dataset_uses, metric_uses
from mmfgl.utils.weights import check_file


def audit_config(
    cfg: Config,
    loaders: Sequence[str] = ('train_dataloader', 'val_dataloader'),
) -> None:
    """Audit the annotations that a run will read, before it starts.

    Looks at the data sets of the loaders that read their annotations as
    ``CocoDataset`` does, and at the files of the evaluators that belong to
    them; others pass unchecked. What can be computed is filled in: mended
    files are written to ``work_dir/annotations``, and the config is pointed
    at them, in place. Everything odd is logged.

    Args:
        cfg: The config; ``work_dir`` is set.
        loaders: Names of its data loaders.

    Raises:
        FileNotFoundError: An annotation file does not exist.
        ValueError: The run would train or test on wrong data; names files,
            annotations, and what to do. Also if the number of classes is
            not the detector's.
    """
    check_num_classes(cfg, loaders)
    mended = once_a_machine(cfg, lambda: _audit(cfg, loaders))
    for loader in loaders:
        for node, use in [
            *dataset_uses(cfg, loader),
            *metric_uses(cfg, loader),
        ]:
            if use in mended:
                node.ann_file = mended[use]


def _audit(cfg: Config, loaders: Sequence[str]) -> dict[Use, str]:
    """Audit all files; gives the mended ones."""
    folder = osp.join(cfg.get('work_dir') or 'work_dirs', 'annotations')
    mended, reports, failures = {}, {}, []
    for loader in loaders:
        datasets = [use for _, use in dataset_uses(cfg, loader) if use]
        metrics = list(metric_uses(cfg, loader))
        contents = {}
        for use in dict.fromkeys([*datasets, *(use for _, use in metrics)]):
            owner = loader
            if use not in datasets:
                owner = loader.replace('dataloader', 'evaluator')
            check_file(use.path, f'annotation file of {owner}')
            contents[use], report = audit_coco(use)
            reports[use] = report
            if failure := report.failure():
                failures.append(f'{owner}: {failure}')
            if report.findings('repair') and not report.findings('error'):
                mended[use] = write_mended(contents[use], use.path, folder)
            _log(report, mended.get(use))
        for node, use in metrics:
            if not any(failures):
                parts = {part: contents[part] for part in datasets}
                failure = compare_evaluator(
                    cfg, loader, node, (use, contents[use]), parts
                )
                failures.append(failure)
    if any(failures):
        raise ValueError('\n'.join(filter(None, failures)))
    _log_leaks(reports)
    return mended


def _log(report: AuditReport, mended: str | None) -> None:
    """One line a file, a kind of repair, and a kind of warning."""
    if report.findings('error'):  # they will be raised
        return
    print_log(report.summary(), 'current')
    for finding in report.findings('repair'):
        print_log(f'{report.path}: {finding}', 'current')
    if mended:
        print_log(f'{report.path}: {mended} is read instead', 'current')
    for finding in report.findings('warning'):
        print_log(f'{report.path}: {finding}', 'current', logging.WARNING)


def _log_leaks(reports: dict[Use, AuditReport]) -> None:
    """Warn of images to train on that are evaluated on too."""
    train, val = {}, {}
    for use, report in reports.items():
        (train if use.train else val).update(report.headers)
    pairs = shared_images(train, val)
    if pairs:
        named = '; '.join(f'{a} is {b}' for a, b in pairs[:EXAMPLES])
        print_log(
            f'images to train on that are evaluated on too: {len(pairs)}; '
            f'results will be too good ({named})',
            'current',
            logging.WARNING,
        )
