"""How long a run takes, and what its minutes are spent on."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from mmfgl.utils.machine import cores
from mmfgl.utils.paths import installed
from mmfgl.utils.quiet import hushed

#: The detector that all of a run's configs train.
DETECTOR = (
    *('configs', '_base_', 'models'),
    'fgl-faster-rcnn_efficientnet-lite0_fpn.py',
)
#: Iterations of each training where neither minutes nor iterations are given:
#: half an hour in all on two cores, or on a GPU.
DEFAULT_ITERS = dict(cpu=400, cuda=4000)
MIN_ITERS = 20  # below, no learning rate has risen
START_UP = 15.0  # seconds of a process until its first batch
CONVERT = 5.0  # seconds of the conversion of weights
REPORT = 30.0
VALIDATIONS = 4  # in a fine-tuning of so many iterations
#: What a run consists of, in order.
PARTS = ('weights', 'weights', 'regions', 'pretrain', 'finetune', 'finetune')
PARTS += ('plain', 'tta') * 2
SEARCH = 0.35  # seconds of selective search an image and core
LOAD = 0.006  # seconds that a worker takes to load an image
# In units of a training iteration of the detector on 8 images.
PRETRAIN = 2.3  # an iteration on 16 views, with the teacher
PLAIN = 0.06  # a tested image
TTA = 0.35  # a tested image in six views
EMBED = 0.02  # 15 regions of an image


@dataclass(frozen=True)
class Speed:
    """Expected seconds of the parts of a run on this machine.

    Attributes:
        pretrain: Of a pretraining iteration.
        finetune: Of a fine-tuning iteration.
        regions: Of the regions of a photograph.
        plain: Of a photograph in a plain test.
        tta: Of a photograph in a test with test-time augmentation.
    """

    pretrain: float
    finetune: float
    regions: float
    plain: float
    tta: float

    @classmethod
    def of(cls, iteration: float, cores: int) -> Speed:
        """From the seconds of one training iteration of the detector.

        Args:
            iteration: On 8 images of 320 px, without loading them.
            cores: Of the machine; two of them load images.
        """
        return cls(
            pretrain=round(max(PRETRAIN * iteration, 16 * LOAD), 3),
            finetune=round(max(1.1 * iteration, 4 * LOAD), 3),
            regions=round(SEARCH / cores + EMBED * iteration, 3),
            plain=round(PLAIN * iteration + LOAD, 3),
            tta=round(TTA * iteration + LOAD, 3),
        )

    @classmethod
    def measure(cls) -> Speed:
        """Time two training iterations of the detector on this machine."""
        with hushed():
            iteration = _iteration_seconds()
        return cls.of(iteration, cores())

    def at_pace(self, part: str, pace: float) -> Speed:
        """What to expect when a part takes ``pace`` times as long as it says.

        Of what trains and tests, that which comes after it is scaled with it,
        until it is measured itself.
        """
        order = ('pretrain', 'finetune', 'plain', 'tta')
        scaled = {'weights': (), 'regions': ('regions',)}.get(part)
        if scaled is None:
            scaled = order[order.index(part) :]
        return replace(self, **{k: pace * getattr(self, k) for k in scaled})


def _iteration_seconds() -> float:
    """Seconds of a training iteration on 8 random images of 320 px."""
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config
    from mmengine.device import get_device
    from mmengine.registry import DefaultScope

    from mmfgl.testing import detection_batch

    register_all_modules(init_default_scope=False)
    cfg = Config.fromfile(installed(*DETECTOR))
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model = model.to(get_device()).train()
    batch = detection_batch(sizes=[(240, 320)] * 8, num_boxes=8)
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        data = model.data_preprocessor(batch, training=True)
        loss, _ = model.parse_losses(model(**data, mode='loss'))
        loss.backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    return min(seconds[1:])  # the first one warms up


@dataclass(frozen=True)
class Length:
    """Length of a training run.

    Attributes:
        iters: Number of iterations; of a run with ``seconds`` the expected
            one.
        seconds: Wall-clock seconds, if these count instead.
    """

    iters: int
    seconds: float | None = None

    def __str__(self) -> str:
        if self.seconds is None:
            return f'{self.iters} iterations'
        return f'{self.seconds / 60:.1f} min'

    def expected(self, iteration: float) -> float:
        """Seconds, where an iteration takes so many."""
        return self.seconds or self.iters * iteration


@dataclass(frozen=True)
class Budget:
    """What a run may take: minutes of all, or iterations of a training.

    Args:
        speed: Of this machine.
        photos: Number of photographs to pretrain on.
        val: Number of photographs to validate on.
        minutes: Of the whole run.
        iters: Of pretraining and of each fine-tuning, without ``minutes``.
        before: Seconds that were gone before the first step.
    """

    speed: Speed
    photos: int
    val: int
    minutes: float | None = None
    iters: int | None = None
    before: float = 0.0

    def check(self) -> None:
        """Make sure that the minutes suffice.

        Raises:
            ValueError: They do not; says how many do.
        """
        if self.minutes is not None and self.left() < self.least:
            needed = 60 * self.minutes - self.left() + self.least
            raise ValueError(
                f'--minutes {self.minutes:g} is too short: on this machine '
                'search, tests and report alone take '
                f'{self.minutes - self.left() / 60:.1f} min; give --minutes '
                f'{needed / 60 + 1:.0f} or more'
            )

    @property
    def least(self) -> float:
        """Seconds of the least training that makes sense."""
        return MIN_ITERS * (self.speed.pretrain + 2 * self.speed.finetune)

    @property
    def validations(self) -> int:
        """In a fine-tuning: with minutes, the clock would run on in one."""
        return VALIDATIONS if self.minutes is None else 1

    def fixed(self, part: str) -> float:
        """Expected seconds of a part without its training iterations."""
        if part == 'weights':
            return CONVERT
        plain = self.val * self.speed.plain
        return START_UP + {
            'regions': self.photos * self.speed.regions,
            'finetune': self.validations * plain,
            'plain': plain,
            'tta': self.val * self.speed.tta,
        }.get(part, 0.0)

    def left(self, done: int = 0, spent: float = 0.0) -> float:
        """Seconds for the trainings that are not done yet.

        Args:
            done: Number of parts done.
            spent: Seconds that they took.
        """
        fixed = sum(map(self.fixed, PARTS[done:])) + REPORT
        return 60 * (self.minutes or 0) - self.before - spent - fixed

    def pretrain(self, spent: float) -> Length:
        """Length of the pretraining.

        It gets a third of what is left for the three trainings.

        Args:
            spent: Seconds of the parts before it.
        """
        done = PARTS.index('pretrain')
        return self._share(3, self.left(done, spent), self.speed.pretrain)

    def finetune(self, spent: float) -> Length:
        """The same of a fine-tuning: half of what pretraining has left."""
        done = PARTS.index('finetune')
        return self._share(2, self.left(done, spent), self.speed.finetune)

    def _share(self, parts: int, left: float, iteration: float) -> Length:
        """A part of what is left, but some training in any case."""
        if self.minutes is None:
            return Length(self.iters)
        seconds = round(max(left / parts, MIN_ITERS * iteration), 1)
        return Length(max(1, round(seconds / iteration)), seconds)
