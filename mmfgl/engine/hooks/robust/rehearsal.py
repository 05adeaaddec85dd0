"""What a runner is at: training, testing, or a schedule alone."""

from mmengine.runner import Runner


def trains(runner: Runner) -> bool:
    """Whether a runner was told to train: else it tests."""
    # Runner._train_loop is a config until Runner.train builds it
    loop = runner._train_loop
    return loop is not None and not isinstance(loop, dict)


def is_rehearsal(runner: Runner) -> bool:
    """Whether a run only plays its learning rates through.

    MMPretrain's ``vis_scheduler.py`` does so, with the custom hooks of the
    config: the model is a placeholder, the data loader a list of numbers.
    Hooks that work on model or data have nothing to do then.
    """
    # Runner._train_loop: the public train_loop would build it in a test
    loop = getattr(runner, '_train_loop', None)
    return isinstance(getattr(loop, 'dataloader', None), list)
