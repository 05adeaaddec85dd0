"""Runs of a schedule alone, without model and data."""

from mmengine.runner import Runner


def is_rehearsal(runner: Runner) -> bool:
    """Whether a run only plays its learning rates through.

    MMPretrain's ``vis_scheduler.py`` does so, with the custom hooks of the
    config: the model is a placeholder, the data loader a list of numbers.
    Hooks that work on model or data have nothing to do then.
    """
    # Runner._train_loop: the public train_loop would build it in a test
    loop = getattr(runner, '_train_loop', None)
    return isinstance(getattr(loop, 'dataloader', None), list)
