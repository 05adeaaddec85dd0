"""The runs of transfer.py, one process each."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from lib.output import write_json
from lib.transfer_arms import ROOT
from lib.transfer_finetune import finetune_config
from lib.transfer_plan import Plan, Row
from lib.transfer_pretraining import Pretraining
from lib.transfer_results import finetune_dir, pretrain_dir, state_of
from mmfgl.utils.steps import Step


class Runs:
    """Makes the runs of a plan, each when those before it are done."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.args = plan.args
        self.out = plan.out
        self.subset: Path | None = None
        if plan.subset is not None:
            self.subset = plan.out / 'annotations/train.json'

    def __iter__(self) -> Iterator[Step]:
        """The runs in order.

        All pretraining first, then seed by seed, so that a slow hour of the
        machine meets all arms alike.
        """
        plan = self.plan
        tool = str(ROOT / 'tools/model_converters/efficientnet_lite.py')
        for path, variant in plan.conversions.items():
            command = [tool, f'--variant={variant}', f'--out={path}']
            yield Step(f'weights{variant}', command, [path], 15)
        done = {}
        for name, path in plan.pretraining.items():
            for step in Pretraining(plan, name, path, self.train):
                yield step
            done[name] = step
        for name, command in plan.outside.items():
            done[name] = self._outside(name, command)
            yield done[name]
        if self.subset is not None:
            write_json(self.subset, plan.subset)
        for seed in range(self.args.seeds):
            for row in plan.rows:
                yield self._finetune(row, seed, done.get(row.pretraining))

    def _outside(self, name: str, command: list[str]) -> Step:
        """A pretraining by another program, of the same budget."""
        args, work_dir = self.args, pretrain_dir(self.out, name)
        budget = ['--iters', str(args.pretrain_iters)]
        if args.pretrain_minutes:
            budget = ['--seconds', str(60 * args.pretrain_minutes)]
        command = [*command, *budget, f'--work-dir={work_dir}']
        outputs = [work_dir / 'last_checkpoint']
        seconds = self.plan.pretrain_seconds
        return Step(
            f'pretrain_{name}', command, outputs, seconds, work_dir=work_dir
        )

    def _finetune(self, row: Row, seed: int, start: Step | None) -> Step:
        checkpoint = self.plan.weights
        if start is not None:
            checkpoint = Path(find_latest_checkpoint(str(start.work_dir)))
        cfg = finetune_config(
            self.args,
            self.plan.data,
            detector=row.detector,
            seed=seed,
            checkpoint=checkpoint,
            ann_file=self.subset,
        )
        return self.train(
            f'finetune_{row.name}_seed{seed}',
            row.name,
            cfg,
            finetune_dir(self.out, row.name, seed),
            self.plan.finetune_seconds(row),
            [] if start is None else [start],
        )

    def train(
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
        if self.args.trust_checkpoint:
            command.append('--trust-checkpoint')
        command, outputs = [*map(str, command)], [work_dir / 'last_checkpoint']
        step = Step(
            name, command, outputs, seconds, needs, str(path), work_dir
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
