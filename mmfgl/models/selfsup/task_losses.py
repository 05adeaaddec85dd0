"""From named losses to balanced ones."""

from collections.abc import Callable

from torch import Tensor

from mmfgl.models.balancers import TaskBalancer, TaskLoss


def task_of(loss: str) -> str:
    """The task that a loss belongs to.

    Args:
        loss: Name of the loss, e.g. ``'loss_rpn_cls'``.

    Returns:
        Name of the task, e.g. ``'objectness'``.
    """
    name = loss.removeprefix('loss_')
    if name.startswith(('rpn_', 'obj_')):
        return 'objectness'
    return 'coord' if name == 'giou' else name


def balance_losses(
    losses: dict[str, Tensor],
    balancer: TaskBalancer,
    unit: Callable[[str], float],
) -> dict[str, Tensor]:
    """Weigh losses by the balancer and add what it logs.

    Args:
        losses: Losses (names with 'loss') and statistics. A task whose
            ``kl_<task>`` is among them has that as its comparable loss.
        balancer: The balancer.
        unit: Gives what counts as 1 of a task's loss.

    Returns:
        The same names, losses weighted, and the balancer's own.
    """
    tasks: dict[str, TaskLoss] = {}
    for key, value in losses.items():
        if 'loss' in key:
            name = task_of(key)
            if name not in tasks:
                tasks[name] = TaskLoss({}, unit=unit(name))
            tasks[name].terms[key] = value
    for name, task in tasks.items():
        if f'kl_{name}' in losses:
            total = task.value(comparable=False).detach()
            task.floor = total - losses[f'kl_{name}'] * task.unit
    comparable = balancer.comparable
    factors = balancer.factors(
        {name: task.value(comparable) for name, task in tasks.items()}
    )
    weighted = dict(losses)
    for name, task in tasks.items():
        factor = factors[name] / (task.unit if comparable else 1)
        for key, value in task.terms.items():
            weighted[key] = value * factor
    return {**weighted, **balancer.penalty(), **balancer.statistics()}
