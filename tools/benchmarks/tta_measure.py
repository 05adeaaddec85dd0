"""Run the contestants of tta.py in turns and measure their detections."""

from __future__ import annotations

import contextlib
import copy
import io
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from mmdet.evaluation.metrics import CocoMetric
from mmengine.config import Config
from mmengine.runner import Runner
from pycocotools.cocoeval import COCOeval
from torch import nn
from torch.utils.data import DataLoader
from tta_config import annotation_file, test_dataset

STATS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def build_loaders(cfg: Config) -> dict[str, DataLoader]:
    """Loaders of the plain images and of their views, in the same order.

    They load in this process: workers would disturb the timing.

    Args:
        cfg: The config.

    Returns:
        Loaders ``'plain'`` and ``'views'``.
    """
    loaders = {}
    for name in ('plain', 'views'):
        own = copy.deepcopy(cfg)
        if name == 'views':
            test_dataset(own).pipeline = own.tta_pipeline
        loader = own.test_dataloader
        loader.update(num_workers=0, persistent_workers=False)
        loader.pop('prefetch_factor', None)
        loaders[name] = Runner.build_dataloader(loader, seed=0)
    return loaders


class AveragePrecision(CocoMetric):
    """COCO's average precision of boxes, and of masks if there are any.

    Unlike the parent it does not round to three digits.

    Args:
        ann_file: Annotation file.
        classes: Class names of the detector.
        prefix: Path prefix of files that are written on the way.
    """

    def __init__(
        self, ann_file: str, classes: tuple[str, ...], prefix: Path
    ) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(
                ann_file=ann_file,
                format_only=True,
                outfile_prefix=str(prefix),
            )
        self.dataset_meta = dict(classes=classes)

    def summary(self) -> dict[str, float]:
        """Average precision over all that was processed.

        Returns:
            ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` in percent
            (-1 where there is no object), and the same with ``mask_`` before
            them if there are masks.
        """
        self.cat_ids = self._coco_api.get_cat_ids(
            cat_names=self.dataset_meta['classes']
        )
        files = self.results2json(
            [result for _, result in self.results], self.outfile_prefix
        )
        found = self._stats(files['bbox'], 'bbox')
        if 'segm' in files:
            masks = self._stats(files['segm'], 'segm')
            found.update({f'mask_{k}': v for k, v in masks.items()})
        return found

    def _stats(self, path: str, kind: str) -> dict[str, float]:
        if not any(len(result['labels']) for _, result in self.results):
            return dict.fromkeys(STATS, 0.0)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(
                self._coco_api, self._coco_api.loadRes(path), kind
            )
            evaluation.params.catIds = self.cat_ids
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {
            name: float(value if value < 0 else 100 * value)
            for name, value in zip(STATS, evaluation.stats)
        }


def build_metrics(
    cfg: Config, loader: DataLoader, names: list[str], folder: Path
) -> dict[str, AveragePrecision]:
    """One measure for each contestant.

    Args:
        cfg: The config.
        loader: Loader of the test data.
        names: The contestants.
        folder: Place for intermediate files.

    Returns:
        The measures.
    """
    classes = tuple(loader.dataset.metainfo['classes'])
    path = annotation_file(cfg)
    return {n: AveragePrecision(path, classes, folder / n) for n in names}


@torch.no_grad()
def run_arms(
    arms: dict[str, nn.Module],
    loaders: dict[str, DataLoader],
    metrics: dict[str, AveragePrecision],
    block: int,
) -> tuple[dict[str, list[float]], list[int]]:
    """Test the contestants in turns.

    Args:
        arms: The contestants; ``'plain'`` gets plain images, others views.
        loaders: See :func:`build_loaders`.
        metrics: The measure of each contestant.
        block: Number of batches of a turn.

    Returns:
        - Seconds of each contestant for each block.
        - Number of images of each block.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    counts: list[int] = []
    for data in _blocks(loaders, block):
        order = list(arms)
        if not counts:  # warm up
            for name in order:
                _time(arms[name], data[_kind(name)][:1])
        turn = len(counts) % len(order)
        for name in order[turn:] + order[:turn]:
            seconds, samples = _time(arms[name], data[_kind(name)])
            times[name].append(seconds)
            metrics[name].process({}, [s.to_dict() for s in samples])
        counts.append(len(samples))
        _progress(counts, len(loaders['plain'].dataset))
    return times, counts


def _progress(counts: list[int], total: int) -> None:
    """Tell at about every tenth of the images."""
    done = sum(counts)
    if done * 10 // total > (done - counts[-1]) * 10 // total:
        print(f'{done} of {total} images', flush=True)


def _kind(name: str) -> str:
    return 'plain' if name == 'plain' else 'views'


def _blocks(
    loaders: dict[str, DataLoader], size: int
) -> Iterator[dict[str, list[dict]]]:
    """Loaded blocks of ``size`` batches of each kind."""
    iterators = {name: iter(loader) for name, loader in loaders.items()}
    while True:
        data = {n: list(islice(i, size)) for n, i in iterators.items()}
        if not data['plain']:
            return
        yield data


def _time(model: nn.Module, batches: list[dict]) -> tuple[float, list]:
    """Seconds of ``test_step`` on batches, and the data samples it gives."""
    batches = copy.deepcopy(batches)  # the samples are written to
    device = next(model.parameters()).device
    samples: list = []
    _wait(device)
    start = time.perf_counter()
    for batch in batches:
        samples += model.test_step(batch)
    _wait(device)
    return time.perf_counter() - start, samples


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
