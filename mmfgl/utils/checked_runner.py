"""A Runner whose data loaders are checked and name the image of an error."""

from __future__ import annotations

import os.path as osp
from collections.abc import Callable, Iterator
from typing import Any

import cv2
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmfgl.utils.config_checks import check_loader
from mmfgl.utils.names import printable
from mmfgl.utils.quiet import logged_prints, quieten


class CheckedRunner(Runner):
    """MMEngine's Runner; every data loader passes :func:`check_loader`.

    An error in a data pipeline, also in a worker process, names the image
    (:class:`NamingPipeline`). What a run computes stays the same.
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build the logger, with a quiet start on the terminal."""
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict:
        """Load as :class:`Runner` does; its lists of keys are logged."""
        with logged_prints(self.logger):
            return super().load_checkpoint(*args, **kwargs)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build as :class:`Runner` does; what COCO's API prints is logged."""
        with logged_prints(self.logger):
            return super().build_evaluator(evaluator)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a data loader as :class:`Runner` does, then check it.

        ``num_workers=0``, as given to find an error, goes without a
        ``persistent_workers`` and a ``prefetch_factor`` meant for more.
        """
        if isinstance(dataloader, dict):
            dataloader = _without_scope(dataloader)
            if not dataloader.get('num_workers'):
                none = dict(persistent_workers=False, prefetch_factor=None)
                dataloader = dataloader | none
        with logged_prints(MMLogger.get_current_instance()):
            loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        check_loader(loader)
        for dataset in leaf_datasets(loader.dataset):
            pipeline = getattr(dataset, 'pipeline', None)
            if callable(pipeline) and not isinstance(pipeline, NamingPipeline):
                source = getattr(dataset, 'ann_file', '')
                dataset.pipeline = NamingPipeline(pipeline, source)
        return loader


def _without_scope(dataloader: dict) -> dict:
    """A data loader's config whose collate function has no scope.

    MMEngine writes one into bases that are read by name (``mmfgl::...``), and
    hands it to the function as an argument.
    """
    collate = dataloader.get('collate_fn')
    if not isinstance(collate, dict):
        return dataloader
    collate = {k: v for k, v in collate.items() if k != '_scope_'}
    # `|` of MMEngine's dicts merges inner ones, and so would keep the scope
    return {**dataloader, 'collate_fn': collate}


def whole_dataset(dataset: Any) -> Any:
    """The data set that ``num_batch_per_epoch`` cuts, others as they are.

    MMEngine's ``_SlicedDataset`` passes on attributes that are read, and
    keeps those that are set.
    """
    return getattr(dataset, '__dict__', {}).get('_dataset', dataset)


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers such as ``RepeatDataset``.

    ``dataset`` is built, or a ``ConfigDict``, of which configs are yielded.
    """
    dataset = whole_dataset(dataset)
    inner = getattr(dataset, 'datasets', None)
    for child in inner or [getattr(dataset, 'dataset', None)]:
        if child is None:
            yield dataset
        else:
            yield from leaf_datasets(child)


class NamingPipeline(Compose):
    """A data pipeline whose errors name the image.

    OpenCV's do not, and a data loader of several workers does not tell which
    image it was at. ``OSError`` and ``cv2.error`` stay what they are, for
    whoever skips images that cannot be read; others become ``RuntimeError``.

    Args:
        pipeline: The pipeline itself.
        source: Annotation file of the images, for the message.
    """

    def __init__(self, pipeline: Callable, source: str = '') -> None:
        plain = type(pipeline) is Compose
        super().__init__(pipeline.transforms if plain else [pipeline])
        self.source = source

    def __call__(self, data: dict) -> Any:
        """Run the pipeline on the information of one image.

        Raises:
            Exception: Names the image, what is wrong, and what to do.
        """
        path = str(data.get('img_path', data.get('img_id', 'without a path')))
        try:
            return super().__call__(data)
        except Exception as error:
            if getattr(error, 'path', None):  # it names the image itself
                raise
            kinds = (OSError, cv2.error, RuntimeError)
            kind = next((k for k in kinds if isinstance(error, k)), kinds[-1])
            text = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise kind(
                f'image {printable(path)} cannot be used: '
                f'{self._reason(path, error)} ({text})'
            ) from error

    def _reason(self, path: str, error: Exception) -> str:
        """What to do about an error."""
        if isinstance(error, KeyError) and error.args == ('mask',):
            return (
                f'{self.source or "its annotation"} has no segmentation for '
                'an object of it. Take a config without masks, or add them.'
            )
        remedy = 'replace it, or leave it out'
        if self.source:
            remedy += f' of {self.source}'
        if osp.isfile(path) and osp.getsize(path) == 0:
            return f'the file is empty (0 bytes); {remedy}'
        if isinstance(error, cv2.error) and 'resize' in str(error):
            return f'it is so thin that no pixel of it is left; {remedy}'
        return f'a step of the data pipeline fails on it; {remedy}'
