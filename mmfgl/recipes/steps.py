"""The steps of a run, from weights to tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from mmfgl.recipes.budget import DETECTOR, START_UP, Budget, cores
from mmfgl.recipes.configs import CLUSTERS, ConfigWriter, Length
from mmfgl.recipes.photos import PRETRAINING
from mmfgl.utils.paths import installed
from mmfgl.utils.resume import find_checkpoint
from mmfgl.utils.steps import Step

#: Detectors of a run, by the name of their configs and work dirs.
ARMS = {'imagenet': 'ImageNet', 'retod': 'ImageNet, then ReToD'}
#: Ways to test, and what they add to the command.
MODES = {'plain': [], 'tta': ['--tta']}
LITE = {'lite0': 0, 'lite2': 2}
NUM_STEPS = len(LITE) + 2 + len(ARMS) * (1 + len(MODES))


def weights_name(variant: int) -> str:
    """File of the weights of an EfficientNet-Lite."""
    return f'efficientnet-lite{variant}_imagenet.pth'


def test_name(arm: str, mode: str) -> str:
    """Name of a test and of its work dir."""
    return f'test-{arm}-{mode}'


class RunSteps:
    """The steps of a run, each made when those before it are done.

    A config is written just before it is trained with: with a budget of
    minutes, its length is what the steps before have left.

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

    def __iter__(self) -> Iterator[Step]:
        """The steps, in order."""
        weights = [self._weights(name) for name in LITE]
        yield from weights
        regions = self._regions(weights[0])
        yield regions
        pretrain = self._pretrain([*weights, regions])
        yield pretrain
        self.writer.data()
        spent = self._spent(*weights, regions, pretrain)
        length = Length(*self.budget.finetune(spent))
        imagenet = self._finetune('imagenet', length, [weights[0]])
        yield imagenet
        if length.seconds is not None:  # both take as many iterations
            done = json.loads((imagenet.work_dir / 'budget.json').read_text())
            length = Length(done['iters'])
        retod = self._finetune('retod', length, [pretrain, imagenet])
        yield retod
        for train in (imagenet, retod):
            for mode in MODES:
                yield self._test(train, mode)

    def num_clusters(self) -> int:
        """Fewer for few photographs, which have few regions."""
        return min(CLUSTERS, 2 * self.budget.photos)

    def plan(self) -> list[tuple[str, str, float]]:
        """Name, content and expected seconds of each step; writes nothing."""
        budget, seconds = self.budget, self.budget.seconds_of
        pretrain = Length(*budget.pretrain())
        finetune = Length(*budget.finetune())
        trained = {
            'pretrain': (pretrain, budget.speed.pretrain),
            'imagenet': (finetune, budget.speed.finetune),
            'retod': (finetune, budget.speed.finetune),
        }
        titles = {
            'pretrain': 'ReToD without labels',
            'imagenet': 'fine-tuning from ImageNet weights',
            'retod': 'fine-tuning from the pretraining, as long',
        }
        rows = [
            (f'weights-{name}', 'ImageNet weights', START_UP) for name in LITE
        ]
        search = f'boxes in {budget.photos} photographs, for pretraining'
        rows.append(('regions', search, seconds('regions')))
        for name, (length, iteration) in trained.items():
            time = length.seconds or length.iters * iteration
            title = f'{titles[name]}, {length}'
            rows.append((name, title, seconds(name) + time))
        for arm in ARMS:
            for mode in MODES:
                title = f'{mode} test on {budget.val} photographs'
                rows.append((test_name(arm, mode), title, seconds(mode)))
        return rows

    def _weights(self, name: str) -> Step:
        """Convert ImageNet weights of a package."""
        path = self.out / 'weights' / weights_name(LITE[name])
        tool = installed('tools', 'model_converters', 'efficientnet_lite.py')
        command = [str(tool), f'--variant={LITE[name]}', f'--out={path}']
        name = f'weights-{name}'
        return Step(name, command, [path], START_UP, root=self.out)

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
        seconds = self.budget.seconds_of('regions')
        needs = [weights]
        return Step('regions', command, [out], seconds, needs, root=self.out)

    def _pretrain(self, needs: list[Step]) -> Step:
        length = Length(*self.budget.pretrain(self._spent(*needs)))
        config = self.writer.pretrain(
            length, self.budget.photos, self.num_clusters()
        )
        seconds = length.seconds or length.iters * self.budget.speed.pretrain
        return self._train('pretrain', config, START_UP + seconds, needs)

    def _finetune(self, arm: str, length: Length, needs: list[Step]) -> Step:
        checkpoint = None
        if arm == 'retod':
            found = find_checkpoint(str(self.out / 'pretrain'), check=False)
            checkpoint = f'pretrain/{Path(found).name}'
        config = self.writer.detector(arm, length, checkpoint)
        seconds = length.seconds or length.iters * self.budget.speed.finetune
        seconds += self.budget.seconds_of(arm)
        return self._train(arm, config, seconds, needs)

    def _train(
        self, name: str, config: Path, seconds: float, needs: list[Step]
    ) -> Step:
        folder = self.out / name
        command = [str(installed('tools', 'train.py')), str(config)]
        command += ['--work-dir', str(folder)]
        done = [folder / 'last_checkpoint']
        return Step(
            *(name, command, done, seconds, needs, str(config), folder),
            resumable=True,
            root=self.out,
        )

    def _test(self, train: Step, mode: str) -> Step:
        # without a root: its config.py names files of the folder, so that
        # it is redone in a folder that was moved
        folder = self.out / test_name(train.name, mode)
        command = [str(installed('tools', 'test.py')), train.config]
        command += [f'{train.work_dir}/LATEST', '--work-dir', str(folder)]
        return Step(
            folder.name,
            [*command, *MODES[mode]],
            [folder / 'metrics.json'],
            self.budget.seconds_of(mode),
            [train],
            train.config,
            folder,
        )

    def _spent(self, *steps: Step) -> float:
        """Seconds that steps took, those of an earlier start included."""
        files = (self.out / 'steps' / f'{step.name}.json' for step in steps)
        return sum(json.loads(f.read_text())['seconds'] for f in files)
