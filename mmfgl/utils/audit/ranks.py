"""Work that one process of a machine does for all of them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from typing import TypeVar

import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed

from mmfgl.utils.cpu_dist import init_cpu_dist

Result = TypeVar('Result')
LIMIT = datetime.timedelta(hours=4)  # the others wait as long


def once_a_machine(cfg: Config, work: Callable[[], Result]) -> Result:
    """Do some work on the first process of each machine, before a Runner.

    Joins the process group that the Runner would join. Every process returns
    the same result or raises the same error, so that none waits for others.

    Args:
        cfg: The config, with its launcher.
        work: Returns what can be pickled.

    Raises:
        ValueError, FileNotFoundError: As ``work`` did on any machine.
        RuntimeError: The machines came to different results.
    """
    if cfg.get('launcher', 'none') == 'none':
        return work()
    init_cpu_dist(cfg)
    if not is_distributed():
        options = cfg.get('env_cfg', {}).get('dist_cfg', {})
        init_dist(cfg.launcher, **options)
    outcome = own = None
    if os.environ.get('LOCAL_RANK', '0') == '0':
        try:
            outcome = (work(), None)
        except Exception as error:  # raised below, on all processes
            outcome, own = (None, error), error
    # gloo: nothing here is on a GPU, and its time limit is our own
    group = dist.new_group(backend='gloo', timeout=LIMIT)
    outcomes = [None] * dist.get_world_size()
    # the group stays: PyTorch 2.1 may hang in taking a gloo group apart
    dist.all_gather_object(outcomes, outcome, group=group)
    done = [outcome for outcome in outcomes if outcome is not None]
    for _, error in done:
        if error is not None:
            raise own or error  # its own has a traceback
    results = [result for result, _ in done]
    if any(result != results[0] for result in results):
        raise RuntimeError(
            'The machines of this run read different annotation files or '
            'images: copy the same data to all of them.'
        )
    return results[0]
