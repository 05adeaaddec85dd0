"""The pretraining of one arm of transfer.py, in one round or several."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from lib.transfer_arms import ROOT, frozen_teachers, pretrain_config
from lib.transfer_plan import Plan
from lib.transfer_results import pretrain_dir, state_of
from mmfgl.utils.steps import Step

OF_DETECTOR = 5  # boxes an image that a further round takes from the detector


class Pretraining:
    """Steps of an arm: region search and training, for each round.

    A round after the first (``rounds`` of the arm's config) learns from the
    boxes that the detector of the round before finds and from the search's,
    in turn, with clusters of both, and starts from its weights but for the
    layer of the pseudo-classes, which are others. All rounds and all that is
    computed between them share the budget; the last step is the training that
    the detectors start from.

    Args:
        plan: The plan of the benchmark.
        name: Name of the pretraining.
        path: Config of the arm.
        train: Makes a training step of name, arm, config, work dir, expected
            seconds and steps that it needs.
    """

    def __init__(
        self, plan: Plan, name: str, path: Path, train: Callable[..., Step]
    ) -> None:
        self.plan = plan
        self.name = name
        self.path = path
        self.train = train
        self.rounds = plan.rounds(name)

    def __iter__(self) -> Iterator[Step]:
        """The steps, each made when those before it are done."""
        needs: list[Step] = []
        spent = 0.0
        for number in range(1, self.rounds + 1):
            part = self.name_of(number)
            if self.name in self.plan.searches:
                search = self._search(number, needs)
                yield search
                spent += state_of(self.plan.out, search.name)['seconds']
                needs = [*needs, search]
            if number > 1:
                yield self._quality(number, search)
            step = self._train_round(number, spent, needs)
            yield step
            if number < self.rounds:
                file = pretrain_dir(self.plan.out, part) / 'budget.json'
                spent += json.loads(file.read_text())['seconds']
            needs = [step]

    def name_of(self, number: int) -> str:
        """Name of a round, the last one that of the pretraining."""
        last = number == self.rounds
        return self.name if last else f'{self.name}-round{number}'

    def _search(self, number: int, needs: list[Step]) -> Step:
        """The region search of a round."""
        out = self.plan.regions(self.name_of(number))
        command = self.plan.searches[self.name]
        command = [f'--out={out}' if '--out=' in x else x for x in command]
        if number > 1:
            before = self.name_of(number - 1)
            start = command.index('--cfg-options')
            del command[start : start + 3]  # of selective search
            work_dir = pretrain_dir(self.plan.out, before)
            command += ['--detector', needs[-1].config, f'{work_dir}/LATEST']
            command += ['--cfg-options', f'max_regions={OF_DETECTOR}']
            command += [f'join={self.plan.regions(self.name_of(1))}']
        title = f'proposals_{self.name_of(number)}'
        return Step(title, command, [out], 60, list(needs))

    def _quality(self, number: int, search: Step) -> Step:
        """How good the boxes of this and the first round are, in its log."""
        tool = str(ROOT / 'tools/analysis_tools/region_quality.py')
        files = [self.plan.regions(self.name_of(n)) for n in (1, number)]
        labels = self.plan.data.root / 'annotations/train.json'
        command = [tool, *map(str, files), '--ann', str(labels)]
        title = f'quality_{self.name_of(number)}'
        return Step(title, command, [], 10, [search])

    def _train_round(
        self, number: int, spent: float, needs: list[Step]
    ) -> Step:
        """The training of a round, its share of what is left of the budget.

        Raises:
            RuntimeError: Nothing is left.
        """
        plan, part = self.plan, self.name_of(number)
        args, seconds = copy.copy(plan.args), None
        share = self.rounds - number + 1
        if args.pretrain_minutes:
            # what an arm computes beforehand is part of its budget
            seconds = round((60 * args.pretrain_minutes - spent) / share, 1)
            if seconds <= 0:
                raise RuntimeError(
                    f'The region proposals of "{self.name}" took '
                    f'{spent:.0f} s, more than --pretrain-minutes allows.'
                )
        else:
            done = (number - 1) * (args.pretrain_iters // self.rounds)
            args.pretrain_iters = max((args.pretrain_iters - done) // share, 1)
        cfg = Config.fromfile(self.path)
        for teacher in frozen_teachers(cfg):
            init_cfg = teacher.init_cfg
            init_cfg.checkpoint = str(plan.locate(init_cfg.checkpoint))
        cfg = pretrain_config(
            cfg,
            args,
            plan.data,
            seconds=seconds,
            weights=plan.weights,
            regions=plan.regions(part),
        )
        if number > 1:
            work_dir = pretrain_dir(plan.out, self.name_of(number - 1))
            _go_on(cfg, find_latest_checkpoint(str(work_dir)))
        return self.train(
            f'pretrain_{part}',
            self.name,
            cfg,
            pretrain_dir(plan.out, part),
            plan.pretrain_seconds / self.rounds,
            needs,
        )


def _go_on(cfg: Config, checkpoint: str) -> None:
    """Start from another round, in place."""
    cfg.load_from = checkpoint
    hooks = [h for h in cfg.custom_hooks if 'ChainHook' not in h['type']]
    chain = dict(
        type='mmfgl.CheckpointChainHook',
        modules=['backbone', 'neck', 'rpn_head'],
        # the RoI head too, but for the classes, which are other clusters
        revise_keys=[(r'\.fc_cls\.', '.fc_cls_of_the_round_before.')],
    )
    cfg.custom_hooks = [*hooks, chain]
