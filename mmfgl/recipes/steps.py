"""The steps of a run, from weights to tests."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mmfgl.recipes.budget import (
    DETECTOR,
    PARTS,
    REPORT,
    Budget,
    Length,
)
from mmfgl.recipes.configs import CLUSTERS, ConfigWriter
from mmfgl.recipes.photos import PRETRAINING
from mmfgl.reports.runs import read_log
from mmfgl.utils.machine import cores
from mmfgl.utils.paths import installed
from mmfgl.utils.resume import find_checkpoint
from mmfgl.utils.steps import Step

#: Detectors of a run, by the name of their configs and work dirs.
ARMS = {'imagenet': 'ImageNet', 'retod': 'ImageNet, then ReToD'}
#: Ways to test, and what they add to the command.
MODES = {'plain': [], 'tta': ['--tta']}
LITE = {'lite0': 0, 'lite2': 2}


def test_name(arm: str, mode: str) -> str:
    """Name of a test and of its work dir."""
    return f'test-{arm}-{mode}'


class RunSteps:
    """The steps of a run, each made when those before it are done.

    A config is written just before it is trained with: with a budget of
    minutes, its length is what the steps before have left. What they took
    corrects what is expected of those to come.

    Args:
        out: Folder of the run.
        writer: Writes its configs.
        budget: Of the run.
    """

    def __init__(
        self, out: Path, writer: ConfigWriter, budget: Budget
    ) -> None:
        self.out = out
        self.writer = writer
        self.budget = budget
        self.lengths: dict[str, Length] = {}  # of trainings, once decided
        self.taken: dict[str, float] = {}  # seconds of steps done
        #: Name of each step -> its part of the budget.
        self.parts = dict(zip(self._titles(), PARTS, strict=True))

    def __len__(self) -> int:
        return len(PARTS)

    def __iter__(self) -> Iterator[Step]:
        """The steps, in order."""
        weights = [self._weights(name) for name in LITE]
        for step in weights:
            yield from self._learn(step)
        regions = self._regions(weights[0])
        yield from self._learn(regions)
        pretrain = self._pretrain([*weights, regions])
        yield from self._learn(pretrain)
        self.writer.data()
        length = self.budget.finetune(sum(self.taken.values()))
        imagenet = self._finetune('imagenet', length, [weights[0]])
        yield from self._learn(imagenet)
        if length.seconds is not None:  # both take as many iterations
            done = json.loads((imagenet.work_dir / 'budget.json').read_text())
            length = Length(done['iters'])
        retod = self._finetune('retod', length, [pretrain, imagenet])
        yield from self._learn(retod)
        for train in (imagenet, retod):
            for mode in MODES:
                yield from self._learn(self._test(train, mode))

    def _learn(self, step: Step) -> Iterator[Step]:
        """The step; when it is done, what it took corrects the budget."""
        yield step
        path = self.out / 'steps' / f'{step.name}.json'
        # those of an earlier start included
        self.taken[step.name] = json.loads(path.read_text())['seconds']
        if step.resumable:
            try:
                records = read_log(step.work_dir)
            except FileNotFoundError:
                records = []
            times = [r['time'] for r in records if 'loss' in r]
            if not times:  # the clock ended it before the first record
                return
            iteration = statistics.median(times)
        elif step.name.startswith('test-'):
            path = step.work_dir / 'metrics.json'
            iteration = json.loads(path.read_text())['seconds_per_image']
        else:
            return
        self.budget = self._at_pace(step.name, iteration / step.iteration)

    def _at_pace(self, name: str, pace: float) -> Budget:
        """The budget when a step takes ``pace`` times as long as expected."""
        speed = self.budget.speed.at_pace(self.parts[name], pace)
        return replace(self.budget, speed=speed)

    def left(self, name: str, pace: float, share: float) -> float:
        """Expected seconds to the end of the run.

        Args:
            name: Of the step that is running.
            pace: Measured over expected seconds of an iteration.
            share: Of the step that is done.
        """
        budget = self._at_pace(name, pace)
        rows = self.plan(budget)
        index = [row[0] for row in rows].index(name)
        own, *later = (seconds for _, _, seconds in rows[index:])
        # the last validation comes when all iterations are done
        last = budget.val * budget.speed.plain * (name in ARMS)
        return max((1 - share) * own, last) + sum(later) + REPORT

    def num_clusters(self) -> int:
        """Fewer for few photographs, which have few regions."""
        return min(CLUSTERS, 2 * self.budget.photos)

    def plan(
        self, budget: Budget | None = None
    ) -> list[tuple[str, str, float]]:
        """Name, content and seconds of each step; writes nothing.

        The seconds are what a step took, or what is expected of it.

        Args:
            budget: By default that of the run.
        """
        budget, rows, spent = budget or self.budget, [], 0.0
        for name, title in self._titles().items():
            part = self.parts[name]
            seconds = budget.fixed(part)
            if part in ('pretrain', 'finetune'):
                if name in self.lengths:
                    length = self.lengths[name]
                elif name != 'retod':  # else as long as that of imagenet
                    length = getattr(budget, part)(spent)
                seconds += length.expected(getattr(budget.speed, part))
                title += f', {length}'
            seconds = self.taken.get(name, seconds)
            spent += seconds
            rows.append((name, title, seconds))
        return rows

    def _titles(self) -> dict[str, str]:
        """Name of each step, in order, and what it does."""
        photos = f'{self.budget.photos} photographs'
        tests = {
            test_name(arm, mode): f'{mode} test on {self.budget.val} '
            'photographs'
            for arm in ARMS
            for mode in MODES
        }
        return {
            **{f'weights-{name}': 'ImageNet weights' for name in LITE},
            'regions': f'boxes in {photos}, for pretraining',
            'pretrain': 'ReToD without labels',
            'imagenet': 'fine-tuning from ImageNet weights',
            'retod': 'fine-tuning from the pretraining, as long',
            **tests,
        }

    def _expected(self, name: str) -> float:
        """Expected seconds of a step."""
        return {row[0]: row[2] for row in self.plan()}[name]

    def _weights(self, name: str) -> Step:
        """Convert ImageNet weights of a package."""
        path = self.out / 'weights' / f'efficientnet-{name}_imagenet.pth'
        tool = installed('tools', 'model_converters', 'efficientnet_lite.py')
        command = [str(tool), f'--variant={LITE[name]}', f'--out={path}']
        name = f'weights-{name}'
        seconds = self._expected(name)
        return Step(name, command, [path], seconds, root=self.out)

    def _regions(self, weights: Step) -> Step:
        """Find and cluster regions."""
        out = self.out / 'data' / 'regions.json'
        tool = installed('tools', 'dataset_converters', 'propose_regions.py')
        command = [str(tool), self.writer.dataset.photos, f'--out={out}']
        command += [f'--ann-file={self.out / PRETRAINING}']
        command += [f'--workers={cores()}', '--cfg-options', 'mode=single']
        command += ['max_regions=15', f'--clusters={self.num_clusters()}']
        command += ['--teacher', str(installed(*DETECTOR))]
        command += [str(weights.outputs[0])]
        seconds = self._expected('regions')
        return Step(
            *('regions', command, [out], seconds, [weights]),
            root=self.out,
            iteration=self.budget.speed.regions,
        )

    def _pretrain(self, needs: list[Step]) -> Step:
        length = self.budget.pretrain(sum(self.taken.values()))
        config = self.writer.pretrain(
            length, self.budget.photos, self.num_clusters()
        )
        return self._train('pretrain', config, length, needs)

    def _finetune(self, arm: str, length: Length, needs: list[Step]) -> Step:
        checkpoint = None
        if arm == 'retod':
            found = find_checkpoint(str(self.out / 'pretrain'), check=False)
            checkpoint = f'pretrain/{Path(found).name}'
        config = self.writer.detector(
            arm, length, checkpoint, self.budget.validations
        )
        return self._train(arm, config, length, needs)

    def _train(
        self, name: str, config: Path, length: Length, needs: list[Step]
    ) -> Step:
        self.lengths[name] = length
        seconds = self._expected(name)
        folder = self.out / name
        command = [str(installed('tools', 'train.py')), str(config)]
        command += ['--work-dir', str(folder)]
        done = [folder / 'last_checkpoint']
        return Step(
            *(name, command, done, seconds, needs, str(config), folder),
            resumable=True,
            root=self.out,
            iteration=getattr(self.budget.speed, self.parts[name]),
        )

    def _test(self, train: Step, mode: str) -> Step:
        folder = self.out / test_name(train.name, mode)
        command = [str(installed('tools', 'test.py')), train.config]
        command += [f'{train.work_dir}/LATEST', '--work-dir', str(folder)]
        return Step(
            folder.name,
            [*command, *MODES[mode]],
            [folder / 'metrics.json'],
            self._expected(folder.name),
            [train],
            train.config,
            folder,
            root=self.out,
            iteration=getattr(self.budget.speed, mode),
        )
