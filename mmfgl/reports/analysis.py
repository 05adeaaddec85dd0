"""Sections on what detectors get wrong, on one set of images."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from mmengine.logging import print_log

from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.evaluation import (
    ERROR_TYPES,
    MatchStatistics,
    confused_pairs,
    tide_report,
)
from mmfgl.reports.detections import (
    choose_images,
    panels,
    shown_predictions,
)
from mmfgl.reports.document import Report
from mmfgl.reports.pictures import class_colour
from mmfgl.reports.plots import svg_bars, svg_curves
from mmfgl.reports.runs import Test

_ERRORS = {
    'cls': 'wrong class',
    'loc': 'badly placed',
    'both': 'wrong class, badly placed',
    'dupe': 'found twice',
    'bkg': 'nothing there',
    'miss': 'missed',
}
_MAX_PAIRS, _MAX_CLASSES, _NUM_PICTURES = 10, 40, 8


def add_analysis(
    page: Report, tests: Sequence[Test], drawn: Sequence[Test]
) -> None:
    """Add classes, confusions, errors by type and pictures.

    Args:
        page: The report.
        tests: Tests on the same images and classes.
        drawn: Those of them that pictures are made of.
    """
    _add_classes(page, tests)
    _add_errors(page, tests)
    _add_confusion(page, tests)
    _add_pictures(page, tests, drawn)


def _add_classes(page: Report, tests: Sequence[Test]) -> None:
    """AP of each class."""
    results = tests[0].results
    objects = np.zeros(len(results.classes), dtype=int)
    for image in results.images:
        np.add.at(objects, image.gt_labels, 1)
    columns = {}
    for test in tests:
        aps = test.results.class_aps()
        if len(tests) == 1:
            columns = {name: 100 * values for name, values in aps.items()}
        else:
            columns[f'AP: {test.name}'] = 100 * aps['AP']
    rows = [
        {
            'class': name,
            'objects': int(objects[label]),
            **{key: float(aps[label]) for key, aps in columns.items()},
        }
        for label, name in enumerate(results.classes)
    ]
    page.section('Classes')
    caption = 'Percent. A class without objects has no AP.'
    page.add_table(rows, caption, bars=list(columns))


def _add_errors(page: Report, tests: Sequence[Test]) -> None:
    """TIDE: errors by type."""
    reports = {
        test.name: tide_report(test.results.images, len(test.results.classes))
        for test in tests
    }
    page.section('Errors')
    lost = {
        name: [100 * tide.dap[kind] for kind in ERROR_TYPES]
        for name, tide in reports.items()
    }
    caption = 'What AP50 would gain were all errors of a type mended.'
    kinds = [_ERRORS[kind] for kind in ERROR_TYPES]
    plots = [(caption, svg_bars(kinds, lost, 'AP50 lost, %'))]
    curves = {test.name: _f1_curve(test) for test in tests}
    svg = svg_curves(curves, 'score threshold', 'F1, %')
    plots.append(('F1 of what is shown from a score on.', svg))
    page.add_plots(plots)
    rows = [
        {
            'run': name,
            **{
                _ERRORS[kind]: f'{100 * tide.dap[kind]:.1f} '
                f'({tide.counts[kind]})'
                for kind in ERROR_TYPES
            },
        }
        for name, tide in reports.items()
    ]
    caption = (
        'AP50 lost and, in brackets, the number of errors among all '
        'predictions, whatever their score. Types as in TIDE '
        '(arXiv 2008.08115).'
    )
    page.add_table(rows, caption)


def _add_confusion(page: Report, tests: Sequence[Test]) -> None:
    """Confusion matrices and the classes most often confused."""
    classes = tests[0].results.classes
    page.section(
        'Confusions',
        'Which class the objects of a class are given, in percent: the '
        'boxes shown below, matched with objects at IoU 0.5 whatever their '
        'class.',
    )
    pairs = []
    for test in tests:
        counts = confusion_of(test)
        for pair in confused_pairs(counts, classes, _MAX_PAIRS):
            pairs.append(
                {
                    'run': test.name,
                    'true class': pair['true'],
                    'taken for': pair['predicted'],
                    'objects': pair['count'],
                    'share, %': 100 * pair['share'],
                }
            )
        kept, summary = _confused_classes(counts), test.name
        if len(kept) < len(classes):
            summary += f': the {len(kept)} classes most often confused'
        part = counts[np.ix_(kept, [*kept, len(classes)])]
        names = [classes[label] for label in kept]
        page.add_confusion(part, names, summary, unfolded=len(kept) <= 12)
    if pairs:
        caption = f'Most confused classes: up to {_MAX_PAIRS} pairs a run.'
        page.add_table(pairs, caption)
    else:
        page.add_text('No object was taken for one of another class.')


def confusion_of(test: Test) -> np.ndarray:
    """(C, C + 1) counts of what is shown; the last column are the missed."""
    results = test.results
    images = (shown_predictions(results, i) for i in range(len(results.paths)))
    return MatchStatistics(len(results.classes)).update(images).confusion


def _confused_classes(counts: np.ndarray) -> np.ndarray:
    """Indices of all classes, or of those most often confused if many."""
    wrong = counts[:, :-1] * (1 - np.eye(len(counts), dtype=int))
    order = np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind='stable')
    return np.sort(order[:_MAX_CLASSES])


def _add_pictures(
    page: Report, tests: Sequence[Test], drawn: Sequence[Test]
) -> None:
    """Detections beside the truth."""
    page.section(
        'Detections',
        'Boxes from the score on that maximises F1 over all images, after '
        'class-agnostic NMS. Dashed: wrong, no object of this class is there '
        '(IoU 0.5). A click enlarges a picture.',
    )
    rows = []
    for test in tests:
        best = test.results.threshold
        rows.append(
            {
                'run': test.name,
                'score threshold': f'{best.score:.2f}',
                'F1': 100 * best.f1,
                'precision': 100 * best.precision,
                'recall': 100 * best.recall,
            }
        )
    page.add_table(rows, 'Percent, at the threshold of highest F1.')
    results = [test.results for test in drawn]
    classes, paths = results[0].classes, results[0].paths
    pictures, missing, seen = [], [], set()
    for reason, index in choose_images(results[-1], _NUM_PICTURES):
        caption = f'{paths[index].rpartition("/")[2]}'
        caption += f' ({reason})' if reason else ''
        try:
            pictures.append((caption, list(panels(results, index))))
        except UnreadableImageError as error:
            missing.append(error)
            continue
        seen.update(results[0].images[index].gt_labels.tolist())
        for result in results:
            seen.update(shown_predictions(result, index).labels.tolist())
    titles = ['truth', *(test.name for test in drawn)]
    legend = [(classes[label], class_colour(label)) for label in sorted(seen)]
    if pictures:
        page.add_pictures(titles, pictures, legend)
    if missing:
        text = (
            f'{len(missing)} of the photographs to show cannot be read and '
            f'are left out ({missing[0]}).'
        )
        page.add_text(text)
        print_log(f'{drawn[0].folder}: {text}', level=logging.WARNING)
    if len(drawn) < len(tests):
        page.add_text(
            'Of each checkpoint the test of highest AP is drawn, at most '
            'three in all.'
        )


def _f1_curve(test: Test, most: int = 400) -> list[tuple[float, float]]:
    """F1 in percent over the score threshold, evenly thinned."""
    best = test.results.threshold
    count = len(best.scores)
    kept = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    xs, ys = best.scores[kept], 100 * best.f1_of_scores[kept]
    return list(zip(xs.tolist(), ys.tolist(), strict=True))
