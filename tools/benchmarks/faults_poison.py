"""A hook that makes a loss NaN, for faults.py."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class FaultPoison(Hook):
    """Multiply the first loss by NaN in chosen iterations.

    Args:
        iters: The iterations, from 0.
    """

    priority = 'HIGHEST'  # spoils before the guard looks

    def __init__(self, iters: list[int]) -> None:
        self.iters = set(iters)

    def before_train(self, runner: Runner) -> None:
        """Spoil what the model returns.

        Args:
            runner: The runner.
        """

        def spoil(module, args, losses):
            if runner.iter in self.iters:
                name = next(name for name in losses if 'loss' in name)
                value = losses[name]
                if isinstance(value, list):
                    losses[name] = [part * float('nan') for part in value]
                else:
                    losses[name] = value * float('nan')
            return losses

        runner.model.register_forward_hook(spoil)
