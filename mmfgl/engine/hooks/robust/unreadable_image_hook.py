"""Counts and reports images that could not be read."""

from collections.abc import Sequence
from functools import partial
from logging import Logger
from typing import Any

from mmdet.engine.hooks import PipelineSwitchHook
from mmengine.dataset import Compose
from mmengine.dist import all_gather_object, all_reduce, get_world_size
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import tensor

from mmfgl.datasets.guarded_pipeline import (
    GuardedPipeline,
    data_samples,
    guard_images,
)
from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils.names import printable


@HOOKS.register_module()
class UnreadableImageHook(Hook):
    """One image never stops a run: it is left out, named and counted.

    For pretraining, training and testing. :class:`UnlabelledImages` and
    :class:`GuardedPipeline`, which this hook puts around the pipelines of
    detection, write the files that they skipped into the ``skipped`` field of
    the sample that stands in for them, so the count needs no shared memory
    between the workers.

    In training another image takes the place of a skipped one. In validation
    and testing it is evaluated as an image without detections. Each file is
    named once, with the reason. If there are too many, all ranks stop
    together; they compare their files every ``INTERVAL`` training iterations
    (a process alone: in each) and after validation and testing.

    Args:
        max_share: Largest share of unreadable files among the images before
            the run stops with an error.
    """

    INTERVAL = 50
    priority = 'HIGHEST'  # before ExactResumeHook starts workers

    def __init__(self, max_share: float = 0.5) -> None:
        self.max_share = max_share
        self.trained, self.tested = Tally(max_share), Tally(max_share)

    def before_train(self, runner: Runner) -> None:
        """Guard the pipeline."""
        if is_rehearsal(runner):
            return
        guard_images(runner.train_dataloader.dataset, test_mode=False)
        for hook in runner.hooks:
            if isinstance(hook, PipelineSwitchHook):
                later = Compose(hook.switch_pipeline)
                hook.switch_pipeline = [GuardedPipeline(later, False)]
        loop, loader = runner.train_loop, runner.train_dataloader
        # _InfiniteDataloaderIterator of mmengine 0.10.7: its workers have
        # started, with the pipeline as it was
        if loader.num_workers and hasattr(loop, 'dataloader_iterator'):
            loader._iterator = None
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Collect the skipped files of a batch.

        Raises:
            RuntimeError: If too many of the images are unreadable.
        """
        self.trained.collect(data_batch)
        interval = 1 if get_world_size() == 1 else self.INTERVAL
        if self.every_n_train_iters(runner, interval):
            total = len(runner.train_dataloader.dataset)
            self.trained.compare(runner.logger, total)

    def after_train(self, runner: Runner) -> None:
        """Report the count over all ranks; raises as above."""
        total = len(runner.train_dataloader.dataset)
        self.trained.compare(runner.logger, total)
        self.trained.summarise(runner.logger, 'skipped and replaced by others')
        if not self.trained.files:
            runner.logger.info('all images that were asked for were readable')

    def before_val(self, runner: Runner) -> None:
        """Guard the pipeline and the evaluator."""
        self._before_test(runner.val_dataloader, runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        """Guard the pipeline and the evaluator."""
        self._before_test(runner.test_dataloader, runner.test_evaluator)

    def _before_test(self, dataloader: Any, evaluator: Evaluator) -> None:
        guard_images(dataloader.dataset, test_mode=True)
        self.tested = Tally(self.max_share)
        # Evaluator.process of this one object: hooks that come after a batch
        # come too late to take its detections away
        evaluator.process = partial(_process, type(evaluator), evaluator)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence | None = None,
    ) -> None:
        """Collect the unreadable files of a batch."""
        self.tested.collect(data_batch)

    after_test_iter = after_val_iter

    def after_val_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Report the count over all ranks; raises as above."""
        self._after_test(runner, len(runner.val_dataloader.dataset))

    def after_test_epoch(
        self, runner: Runner, metrics: dict | None = None
    ) -> None:
        """Report the count over all ranks; raises as above."""
        self._after_test(runner, len(runner.test_dataloader.dataset))

    def _after_test(self, runner: Runner, total: int) -> None:
        self.tested.compare(runner.logger, total)
        self.tested.summarise(
            runner.logger, 'evaluated as images without detections'
        )


class Tally:
    """Unreadable files of a data set, over all ranks.

    Args:
        max_share: See the hook.

    Attributes:
        files: Reasons by file, of all ranks.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.files: dict[str, str] = {}
        self._new: dict[str, str] = {}  # of this rank, not yet compared

    def collect(self, batch: Any) -> None:
        """Keep the files that a batch's samples stand in for."""
        for sample in data_samples(batch):
            for path, reason in sample.get('skipped', ()):
                if path not in self.files:
                    self._new[path] = reason

    def compare(self, logger: Logger, total: int) -> None:
        """Name the new files of all ranks; to be called by all of them.

        Raises:
            RuntimeError: If there are too many among ``total`` images.
        """
        some = tensor(len(self._new))
        all_reduce(some)
        if not some:
            return
        for new in all_gather_object(self._new):
            for path, reason in new.items():
                if path not in self.files:
                    self.files[path] = reason
                    logger.warning(
                        f'skipped unreadable image {printable(path)}: '
                        f'{printable(reason)}'
                    )
        self._new = {}
        if len(self.files) > self.max_share * total:
            raise RuntimeError(
                f'{len(self.files)} of {total} images cannot be read, more '
                f'than the allowed share of {self.max_share}: check the image '
                'folder, or raise max_share of UnreadableImageHook'
            )

    def summarise(self, logger: Logger, what: str) -> None:
        """Log the number of files, and the first names."""
        if self.files:
            first = ', '.join(map(printable, sorted(self.files)[:10]))
            more = ' ...' if len(self.files) > 10 else ''
            logger.warning(
                f'{len(self.files)} unreadable images were {what}: '
                f'{first}{more}'
            )


def _process(
    kind: type[Evaluator],
    evaluator: Evaluator,
    data_samples: Sequence,
    data_batch: Any = None,
) -> None:
    """Evaluate a batch; blank images have no detections."""
    for sample in data_samples:
        if getattr(sample, 'unreadable', False):
            sample.pred_instances = sample.pred_instances[:0]
    kind.process(evaluator, data_samples, data_batch)
