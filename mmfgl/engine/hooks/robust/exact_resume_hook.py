"""A resumed run ends with the weights of a run that was never stopped."""

import itertools
from collections.abc import Iterator

from mmdet.datasets.samplers import (
    GroupMultiSourceSampler,
    MultiSourceSampler,
)
from mmengine.dataset import InfiniteSampler
from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils.randomness import SeededBatches, seed_all

IN_EPOCH = 'mmfgl_batches_of_epoch'  # in a checkpoint's meta


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make randomness and data order a function of (seed, iteration).

    MMEngine resumes weights, optimizer, schedules and counters, but no
    random state, and the workers of a data loader forget theirs. This hook
    needs to save none: it seeds anew

    - before every iteration, from (seed, rank, iteration): masks, dropout
      and whatever else the model draws. What all ranks must draw alike has a
      generator of its own (:class:`TaskSampler`);
    - before every sample, from (seed, rank, epoch, batch, place in the
      batch): augmentations, in whichever worker they happen.

    On resuming, ``IterBasedTrainLoop`` moves on to its place in the data by
    drawing indices alone, without loading what they stand for, and the
    sampler gets the seed of the checkpoint, also where the config has none.
    Validation in between disturbs nothing.

    Exact means: on a CPU, the weights of the stopped and of the unstopped
    run are bit-equal, with any number of workers, as long as seed, batch
    size, number of processes and number of threads stay the same. On GPUs,
    cuDNN and atomic additions (RoIAlign's backward) still differ in the last
    bits, unless ``randomness=dict(deterministic=True)`` and deterministic
    operators are used; and mmdet's ``GroupMultiSourceSampler`` (Soft Teacher)
    draws another order of upright and wide batches. ``EpochBasedTrainLoop``
    goes on within an epoch, too. Save at a multiple of the gradient
    accumulation: gradients are in no checkpoint.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._skip = 0  # batches of the next epoch
        self._epoch_start = 0  # first iteration of the epoch under way
        self._epoch: int | None = None  # its number

    def before_train(self, runner: Runner) -> None:
        """Take over the batch sampler; on resuming, go on at its place.

        Raises:
            ValueError: The data loader forms no batches itself.
        """
        loop = runner.train_loop
        loader = loop.dataloader
        if is_rehearsal(runner):
            if hasattr(loop, 'dataloader_iterator'):
                # the loop's own waits for 2 s whenever the list ends
                loop.dataloader_iterator = itertools.cycle(loader)
            return
        if loader.batch_sampler is None:
            raise ValueError(
                'ExactResumeHook needs a train_dataloader that forms batches '
                '(with a batch_size or batch_sampler); this one has neither'
            )
        _rewind(loader, _sampler_seed(runner))
        sampler, rank = loader.batch_sampler, get_rank()
        self.batches = SeededBatches(sampler, runner.seed, rank)
        replace_batch_sampler(loader, self.batches)
        if not hasattr(loop, 'dataloader_iterator'):
            return
        # mmengine.runner.loops._InfiniteDataloaderIterator: 0.10.7 starts it
        # early, onedl later; both count epochs in _epoch. Newer ones resume
        # by skip_iter, which loads nothing; older ones call next() instead.
        old = loop.dataloader_iterator
        skips = hasattr(old, 'skip_iter')
        if skips:
            self.batches.skip(loop.iter)
        loop.dataloader_iterator = type(old)(loader)
        if skips:
            loop.dataloader_iterator._epoch = self.batches.epoch
            loop.dataloader_iterator.skip_iter = lambda num: None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Read how far the epoch was."""
        self._skip = checkpoint.get('meta', {}).get(IN_EPOCH, 0)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note how far the epoch is: not known from numbers if data change."""
        meta = checkpoint['meta']
        if meta['epoch'] == self._epoch:  # it is not over
            meta[IN_EPOCH] = meta['iter'] - self._epoch_start

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the batch sampler the epoch, and where to start in it."""
        loop = runner.train_loop
        if hasattr(loop, 'dataloader_iterator') or is_rehearsal(runner):
            return
        self.batches.epoch = runner.epoch
        # none if weights alone were loaded
        done, self._skip = self._skip if runner.iter else 0, 0
        self._epoch_start, self._epoch = runner.iter - done, runner.epoch
        if done:
            self.batches.start_at(done)
            # EpochBasedTrainLoop counts the batches that it gets: for the
            # log, its run_iter of this one epoch gets their real numbers
            run_iter = loop.run_iter
            loop.run_iter = lambda idx, batch: run_iter(done + idx, batch)

    def after_train_epoch(self, runner: Runner) -> None:
        """The next epoch is whole."""
        vars(runner.train_loop).pop('run_iter', None)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Seed everything for this iteration."""
        seed_all(runner.seed, get_rank(), runner.iter)


def replace_batch_sampler(loader: DataLoader, batches: SeededBatches) -> None:
    """Give a data loader another batch sampler, in place.

    ``DataLoader.__setattr__`` refuses it, but the sampler is read afresh for
    each iterator; a running one of persistent workers is ``_iterator``.
    """
    object.__setattr__(loader, 'batch_sampler', batches)
    loader._iterator = None


def _by_source(
    sampler: MultiSourceSampler, sizes: dict[int, int]
) -> dict[int, Iterator[int]]:
    """Fresh indices of each source, of so many images."""
    return {s: sampler._indices_of_rank(n) for s, n in sizes.items()}


def _sampler_seed(runner: Runner) -> int:
    """Seed of the train sampler, the same on all ranks.

    That of its own config, or the run's (``diff_rank_seed`` adds the rank).
    """
    loader = runner.cfg.get('train_dataloader') or {}
    seed = [(loader.get('sampler') or {}).get('seed')]
    if seed[0] is None:
        seed = [runner.seed]
        broadcast_object_list(seed)
    return seed[0]


def _rewind(loader: DataLoader, seed: int) -> None:
    """Put the sampler back to its start, with a seed."""
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    if hasattr(sampler, 'seed'):
        sampler.seed = seed
    # _indices_of_rank is an iterator that has the seed in it: of all images in
    # MMEngine's InfiniteSampler, of each source in mmdet's samplers
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()
    if isinstance(sampler, MultiSourceSampler):
        sizes = dict(enumerate(map(len, sampler.dataset.datasets)))
        sampler.source2inds = _by_source(sampler, sizes)
    if isinstance(sampler, GroupMultiSourceSampler):
        by_source = sampler.group2size_per_source
        sampler.group_source2inds = [
            _by_source(sampler, {s: n[g] for s, n in enumerate(by_source)})
            for g in range(len(sampler.group_ratio))
        ]
    # AspectRatioBatchSampler._aspect_ratio_buckets: an iterator that workers
    # have read from, but not to its end, leaves a full one, and the next
    # iterator would never find it full again
    for bucket in getattr(loader.batch_sampler, '_aspect_ratio_buckets', ()):
        bucket.clear()
