"""Run the contestants of tta.py in turns and measure their detections."""

import copy
import time
from collections.abc import Iterator
from itertools import islice
from statistics import median

import torch
from mmdet.evaluation.metrics import CocoMetric
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from lib.timing import wait
from lib.tta_config import annotation_file, test_dataset

BLOCK = 4  # batches between two turns
# names of CocoMetric
STATS = {
    'AP': 'mAP',
    **{f'AP{part}': f'mAP_{part}' for part in ('50', '75', 's', 'm', 'l')},
}


def build_loaders(cfg: Config) -> dict[str, DataLoader]:
    """Loaders ``'plain'``, ``'views'`` and ``'slices'`` of the same images.

    They load in this process: workers would disturb the timing.
    """
    loaders = {}
    pipelines = dict(plain=test_dataset(cfg).pipeline, views=cfg.tta_pipeline)
    if 'slices_pipeline' in cfg:
        pipelines['slices'] = cfg.slices_pipeline
    for name, pipeline in pipelines.items():
        own = copy.deepcopy(cfg)
        test_dataset(own).pipeline = pipeline
        loader = own.test_dataloader
        loader.update(num_workers=0, persistent_workers=False)
        loader.pop('prefetch_factor', None)
        loaders[name] = Runner.build_dataloader(loader, seed=0)
    return loaders


def build_metrics(
    cfg: Config, arms: dict[str, nn.Module], classes: tuple[str, ...]
) -> dict[str, CocoMetric]:
    """MMDetection's COCO metric for each contestant."""
    kinds = ['bbox']
    if getattr(arms['plain'], 'with_mask', False):
        kinds.append('segm')
    metrics = {}
    for name in arms:
        metrics[name] = CocoMetric(annotation_file(cfg), kinds)
        metrics[name].dataset_meta = dict(classes=classes)
    return metrics


def precisions(metric: CocoMetric) -> dict[str, float]:
    """Average precision over all that was processed.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` in percent (-1
        where there is no object, 0 if nothing was detected), and the same
        with ``mask_`` before them if there are masks.
    """
    found = metric.evaluate(len(metric.results))
    result = {}
    for kind, prefix in zip(metric.metrics, ('', 'mask_')):
        for name, key in STATS.items():
            value = found.get(f'coco/{kind}_{key}', 0.0)
            result[prefix + name] = value if value < 0 else 100 * value
    return result


@torch.no_grad()
def run_arms(
    arms: dict[str, nn.Module],
    loaders: dict[str, DataLoader],
    metrics: dict[str, CocoMetric],
) -> tuple[dict[str, list[float]], list[int]]:
    """Test the contestants in turns; ``metrics`` gets what they find.

    ``'plain'`` gets plain images, ``'roi_tta_slices'`` slices, the others
    views.

    Returns:
        Seconds of each contestant and number of images, of each block.
    """
    kinds = dict.fromkeys(arms, 'views')
    kinds.update(plain='plain', roi_tta_slices='slices')
    times: dict[str, list[float]] = {name: [] for name in arms}
    counts: list[int] = []
    total = len(loaders['plain'].dataset)
    for data in _blocks(loaders):
        order = list(arms)
        if not counts:  # warm up
            for name in order:
                timed(arms[name], data[kinds[name]][:1])
        turn = len(counts) % len(order)
        for name in order[turn:] + order[:turn]:
            seconds, samples = timed(arms[name], data[kinds[name]])
            times[name].append(seconds)
            metrics[name].process({}, [s.to_dict() for s in samples])
        counts.append(len(samples))
        print(f'{sum(counts)} of {total} images', flush=True)
    return times, counts


def _blocks(loaders: dict[str, DataLoader]) -> Iterator[dict[str, list[dict]]]:
    """Loaded blocks of batches of each kind."""
    iterators = {name: iter(loader) for name, loader in loaders.items()}
    while True:
        data = {n: list(islice(i, BLOCK)) for n, i in iterators.items()}
        if not data['plain']:
            return
        yield data


def timed(model: nn.Module, batches: list[dict]) -> tuple[float, list]:
    """Seconds of ``test_step`` on batches, and the data samples it gives."""
    batches = copy.deepcopy(batches)  # the samples are written to
    device = next(model.parameters()).device
    samples: list = []
    wait(device)
    start = time.perf_counter()
    for batch in batches:
        samples += model.test_step(batch)
    wait(device)
    return time.perf_counter() - start, samples


def summarise_times(
    times: dict[str, list[float]], counts: list[int]
) -> dict[str, dict[str, float]]:
    """``seconds_per_image``, ``time_to_plain`` and ``time_to_det_tta``.

    Medians over the blocks, of each contestant, from what :func:`run_arms`
    gives.
    """
    results: dict = {}
    for name, seconds in times.items():
        results[name] = dict(
            seconds_per_image=median(
                s / n for s, n in zip(seconds, counts, strict=True)
            )
        )
        for other in ('plain', 'det_tta'):
            if other in times:
                results[name][f'time_to_{other}'] = median(
                    a / b for a, b in zip(seconds, times[other], strict=True)
                )
    return results
