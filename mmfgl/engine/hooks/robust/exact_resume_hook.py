"""A resumed run ends with the weights of a run that was never stopped."""

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmfgl.registry import HOOKS
from mmfgl.utils.randomness import SeededBatches, seed_all


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make randomness and data order a function of (seed, iteration).

    MMEngine resumes weights, optimizer, schedules and counters, but no
    random state, and the workers of a data loader forget theirs. This hook
    needs to save none: it seeds anew

    - before every iteration, from (seed, iteration): masks, dropout and
      whatever else the model draws;
    - before every sample, from (seed, rank, epoch, batch, place in the
      batch): augmentations, in whichever worker they happen.

    On resuming, ``IterBasedTrainLoop`` moves on to its place in the data by
    drawing indices alone, without loading what they stand for, and the
    sampler gets the seed of the checkpoint, also where the config has none.
    Validation in between disturbs nothing.

    Exact means: on a CPU, the weights of the stopped and of the unstopped
    run are bit-equal, with any number of workers, as long as seed, batch
    size, number of processes and number of threads stay the same. What
    remains: on GPUs, cuDNN and atomic additions (RoIAlign's backward) differ
    in the last bits from run to run, unless
    ``randomness=dict(deterministic=True)`` and deterministic operators are
    used; ``EpochBasedTrainLoop`` resumes at the start of an epoch, so its
    checkpoints must be saved at the end of epochs (``by_epoch=True``); with
    gradient accumulation, save at a multiple of it, because gradients are
    not in a checkpoint.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Take over the batch sampler; on resuming, go on at its place.

        Args:
            runner: The runner.

        Raises:
            ValueError: The data loader forms no batches itself.
        """
        loop = runner.train_loop
        loader = loop.dataloader
        if loader.batch_sampler is None:
            raise ValueError(
                'ExactResumeHook needs a train_dataloader that forms batches '
                '(with a batch_size or batch_sampler); this one has neither'
            )
        _rewind(loader, runner.seed)
        self.batches = SeededBatches(
            loader.batch_sampler, runner.seed, get_rank()
        )
        # a data loader refuses to be given another sampler, but reads it
        # afresh for each iterator
        object.__setattr__(loader, 'batch_sampler', self.batches)
        loader._iterator = None
        if not hasattr(loop, 'dataloader_iterator'):
            return
        old = loop.dataloader_iterator
        skips = hasattr(old, 'skip_iter')  # else MMEngine calls next()
        if skips:
            self.batches.skip(loop.iter)
        # MMEngine 0.10.7 has started the old one already
        loop.dataloader_iterator = type(old)(loader)
        if skips:
            loop.dataloader_iterator._epoch = self.batches.epoch
            loop.dataloader_iterator.skip_iter = lambda num: None

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the batch sampler the epoch.

        Args:
            runner: The runner.
        """
        if not hasattr(runner.train_loop, 'dataloader_iterator'):
            self.batches.epoch = runner.epoch

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Seed everything for this iteration.

        Args:
            runner: The runner.
            batch_idx: Index of the batch.
            data_batch: The batch.
        """
        seed_all(runner.seed, runner.iter)


def _rewind(loader: DataLoader, seed: int) -> None:
    """Put the sampler back to its start, with the seed of the run."""
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    if hasattr(sampler, 'seed'):
        sampler.seed = seed
    if hasattr(sampler, '_indices_of_rank'):  # MMEngine's InfiniteSampler
        sampler.indices = sampler._indices_of_rank()
