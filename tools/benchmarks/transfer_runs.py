"""The runs of transfer.py, one process each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint
from transfer_arms import ROOT, pretrain_config
from transfer_detect import finetune_config, modules_to_load, write_subset
from transfer_plan import WEIGHTS, Plan, Row
from transfer_results import finetune_dir, pretrain_dir, state_of

from mmfgl.utils.steps import Step


class Runs:
    """Makes the runs of a plan, each when those before it are done.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.args = plan.args
        self.out = plan.out
        self.subset = (
            self.out / 'annotations' / f'train_{plan.args.labels}.json'
        )

    def __iter__(self) -> Iterator[Step]:
        """The runs in order.

        All pretraining first, then seed by seed, so that a slow hour of the
        machine meets all arms alike.
        """
        weights = self.plan.weights
        if weights and weights != WEIGHTS:
            tool = ROOT / 'tools/model_converters/efficientnet_lite0.py'
            yield Step(
                'weights', [str(tool), '--out', str(weights)], [weights], 15
            )
        done = {}
        for name, path in self.plan.pretraining.items():
            cfg = Config.fromfile(path)
            needs = []
            if 'proposals_command' in cfg:
                needs = [self._proposals(name, cfg)]
                yield needs[0]
            done[name] = self._pretrain(name, cfg, needs)
            yield done[name]
        if self.args.labels and not self.subset.is_file():
            write_subset(self.plan.data, self.args.labels, self.subset)
        for seed in range(self.args.seeds):
            for row in self.plan.rows:
                yield self._finetune(row, seed, done.get(row.pretraining))

    def _proposals(self, name: str, cfg: Config) -> Step:
        """The step that computes region proposals for an arm."""
        file = self._proposal_file(name)
        images = self.plan.data.root / 'train'
        command = [
            part.format(
                images=images, proposals=file, weights=self.plan.weights
            )
            for part in cfg.proposals_command
        ]
        file.parent.mkdir(parents=True, exist_ok=True)
        return Step(f'proposals_{name}', command, [file], 60)

    def _proposal_file(self, name: str) -> Path:
        return self.out / 'proposals' / f'{name}.json'

    def _pretrain(self, name: str, cfg: Config, needs: list[Step]) -> Step:
        args, seconds = self.args, None
        if args.pretrain_minutes:
            # what an arm computes beforehand is part of its budget
            spent = sum(state_of(self.out, s.name)['seconds'] for s in needs)
            seconds = round(60 * args.pretrain_minutes - spent, 1)
            if seconds <= 0:
                raise RuntimeError(
                    f'The region proposals of "{name}" took {spent:.0f} s, '
                    'more than --pretrain-minutes allows.'
                )
        cfg = pretrain_config(
            cfg,
            data_root=self.plan.data.root,
            num_images=self.plan.data.num_images,
            view_size=args.view_size,
            seconds=seconds,
            iters=args.pretrain_iters,
            workers=args.workers,
            amp=args.amp,
            weights=self.plan.weights,
            proposals=self._proposal_file(name) if needs else None,
        )
        return self._train(
            f'pretrain_{name}',
            name,
            cfg,
            pretrain_dir(self.out, name),
            self.plan.pretrain_seconds,
            needs,
        )

    def _finetune(self, row: Row, seed: int, start: Step | None) -> Step:
        checkpoint, modules = self.plan.weights, []
        if start is not None:
            checkpoint = Path(find_latest_checkpoint(str(start.work_dir)))
        if checkpoint is not None:
            modules = modules_to_load(checkpoint, row.detector)
        cfg = finetune_config(
            row.detector,
            self.args.init,
            self.plan.data,
            iters=self.args.finetune_iters,
            seed=seed,
            checkpoint=checkpoint,
            modules=modules,
            ann_file=self.subset if self.args.labels else None,
            amp=self.args.amp,
        )
        return self._train(
            f'finetune_{row.name}_seed{seed}',
            row.name,
            cfg,
            finetune_dir(self.out, row.name, seed),
            self.plan.finetune_seconds(row),
            [] if start is None else [start],
        )

    def _train(
        self,
        name: str,
        arm: str,
        cfg: Config,
        work_dir: Path,
        seconds: float,
        needs: list[Step],
    ) -> Step:
        """A training step; its config is written for all to read.

        Raises:
            RuntimeError: The run is done, with another config.
        """
        path = self.out / 'configs' / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.is_file() else ''
        cfg.dump(path)
        command = [ROOT / 'tools/train.py', path, '--work-dir', work_dir]
        step = Step(
            name,
            list(map(str, command)),
            [work_dir / 'last_checkpoint'],
            seconds,
            needs,
            str(path),
            work_dir,
        )
        state = state_of(self.out, name)
        if state.get('done') and state['digest'] != step.digest():
            path.write_text(before)
            raise RuntimeError(
                f'The arm "{arm}" was run with another config ({name} in '
                f'{self.out}). Run it anew with --redo {arm}, give it another '
                'name (--arms NAME=CONFIG.py), or give another --out.'
            )
        return step
