"""A score of the pretraining that needs no labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import BatchSampler, SequentialSampler

from mmfgl.engine.hooks.robust.exact_resume_hook import replace_batch_sampler
from mmfgl.engine.hooks.robust.rehearsal import is_rehearsal
from mmfgl.registry import HOOKS
from mmfgl.utils import unwrap
from mmfgl.utils.randomness import SeededBatches, rng_kept


@HOOKS.register_module()
class RegionProbeHook(Hook):
    """Cross-view region retrieval on held-out images.

    Every ``interval`` iterations, each region of the first views of a fixed
    set of images looks for its most similar one (cosine similarity of encoded
    tokens) among the regions of all second views. The share that finds
    itself is logged as ``probe/region_top1``; by chance it is one over the
    number of regions, which the log names too.

    Views and regions are drawn once, from a fixed seed, so the scores of a
    run, and of runs with one config, compare. The random states of the
    training are left as they were. The main process computes; the images are
    kept in memory, so a few dozen are right.

    Args:
        dataloader: Config of a data loader of held-out images with the view
            transform of the training. The first images of the data set are
            taken, whatever its sampler and the number of processes.
        interval: Iterations between two probes; the first is before
            training, the last at its end.
        branch: ``'teacher'`` or ``'student'``.
        max_images: No further batch is taken once there are so many images.
    """

    priority = 'LOW'

    def __init__(
        self,
        dataloader: dict,
        interval: int = 500,
        branch: str = 'student',
        max_images: int = 64,
    ) -> None:
        if branch not in ('teacher', 'student'):
            raise ValueError(
                f"branch must be 'teacher' or 'student', got {branch!r}"
            )
        if interval < 1 or max_images < 1:
            raise ValueError('interval and max_images must be at least 1')
        self.dataloader = dataloader
        self.interval = interval
        self.branch = branch
        self.max_images = max_images

    def before_train(self, runner: Runner) -> None:
        """Load the images and probe the model as it starts."""
        if is_rehearsal(runner):
            return
        if is_main_process():
            with rng_kept():
                self._batches = self._load(runner)
            self._probe(runner, runner.iter)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Probe every ``interval`` iterations and after the last."""
        done = runner.iter + 1
        due = done % self.interval == 0 or done == runner.max_iters
        if due and not is_rehearsal(runner):
            self._probe(runner, done)

    def _load(self, runner: Runner) -> list[dict]:
        """The probe's batches, the same whenever they are loaded."""
        try:
            loader = runner.build_dataloader(self.dataloader, seed=0)
        except (OSError, ValueError) as error:
            text = f'dataloader of RegionProbeHook, in custom_hooks: {error}'
            raise type(error)(text) from error
        # a sampler of the run would share them out among its processes
        order = BatchSampler(
            SequentialSampler(loader.dataset), loader.batch_size, False
        )
        replace_batch_sampler(loader, SeededBatches(order, seed=0))
        loaded, count = [], 0
        for batch in loader:
            loaded.append(batch)
            count += len(batch['data_samples'])
            if count >= self.max_images:
                break
        if not loaded:
            raise ValueError('the dataloader of RegionProbeHook is empty')
        return loaded

    @master_only
    def _probe(self, runner: Runner, step: int) -> None:
        """Score and log."""
        model = unwrap(runner.model)
        with rng_kept():
            score, regions = region_top1(model, self._batches, self.branch)
        runner.message_hub.update_scalar('train/probe/region_top1', score)
        runner.visualizer.add_scalar('probe/region_top1', score, step)
        runner.logger.info(
            f'region probe at iteration {step}: region_top1 {score:.4f} '
            f'(chance {1 / regions:.4f}, {regions} regions)'
        )


@torch.no_grad()
def region_top1(
    model: torch.nn.Module, batches: list[dict], branch: str = 'student'
) -> tuple[float, int]:
    """Share of regions that find themselves in the other view.

    ``model`` is a :class:`ReToD` without distributed wrapper; it is in
    evaluation mode meanwhile, and left as it was. Returns the share, and the
    number of regions that were to choose from.
    """
    from mmfgl.models.selfsup import encode_views

    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        views: tuple[list[Tensor], list[Tensor]] = ([], [])
        for batch in batches:
            data = model.data_preprocessor(batch, False)
            tokens = encode_views(
                model, data['inputs'], data['data_samples'], branch
            )  # (V, B, N, D)
            for view, part in zip(views, tokens, strict=True):
                view.append(F.normalize(part.float().flatten(0, 1), dim=1))
        queries, keys = (torch.cat(view) for view in views)
        own = torch.arange(len(keys), device=keys.device)
        parts = [(p @ keys.T).argmax(dim=1) for p in queries.split(1024)]
        found = torch.cat(parts)
        return float((found == own).float().mean()), len(keys)
    finally:
        for module, mode in modes.items():
            module.training = mode
