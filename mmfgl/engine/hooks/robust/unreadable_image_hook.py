"""Counts and reports images that could not be read."""

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmfgl.registry import HOOKS


@HOOKS.register_module()
class UnreadableImageHook(Hook):
    """Report each skipped image once, and their number at the end.

    :class:`UnlabelledImages` puts the files it skipped into the ``skipped``
    field of the sample that stands in for them, so the count needs no shared
    memory between the workers.

    Args:
        max_share: Largest share of unreadable files among the images before
            training stops with an error.
    """

    def __init__(self, max_share: float = 0.5) -> None:
        self.max_share = max_share
        self.files: set[str] = set()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: dict
    ) -> None:
        """Collect the skipped files of a batch.

        Raises:
            RuntimeError: If too many of the images are unreadable.
        """
        for sample in data_batch['data_samples']:
            for path in sample.get('skipped', ()):
                if path not in self.files:
                    self.files.add(path)
                    runner.logger.warning(
                        f'skipped unreadable image {printable(path)}'
                    )
        total = len(runner.train_dataloader.dataset)
        if len(self.files) > self.max_share * total:
            raise RuntimeError(
                f'{len(self.files)} of {total} images cannot be read, more '
                f'than the allowed share of {self.max_share}: check the image '
                'folder, or raise max_share of UnreadableImageHook'
            )

    def after_train(self, runner: Runner) -> None:
        """Report the count over all ranks."""
        files = set().union(*all_gather_object(self.files))
        if files:
            first = ', '.join(map(printable, sorted(files)[:10]))
            more = ' ...' if len(files) > 10 else ''
            runner.logger.warning(
                f'{len(files)} unreadable images were skipped and replaced by '
                f'their neighbours: {first}{more}'
            )
        else:
            runner.logger.info('all images that were asked for were readable')


def printable(path: str) -> str:
    """A path that every log can hold: bytes that are no UTF-8 are escaped."""
    return path.encode('utf-8', 'backslashreplace').decode()
