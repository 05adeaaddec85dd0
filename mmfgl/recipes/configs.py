"""The configs that a run writes, and that a user goes on from.

Each is a short child of ``mmfgl::`` parts. Paths inside the run's folder are
relative to the config, so that the folder can be moved.
"""

from __future__ import annotations

import os.path as osp
from pathlib import Path

from mmfgl.recipes.budget import VALIDATIONS, Length
from mmfgl.recipes.templates import DATA, DETECTOR, NO_FLIP, PRETRAIN
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.formats import Dataset
from mmfgl.utils.paths import installed

HERE = '{{ fileDirname }}/..'  # the run's folder; MMEngine fills it in
FGL = 'mmfgl::_base_/models/fgl-faster-rcnn_efficientnet-lite0_fpn.py'
#: Number of regions' clusters, the pseudo-classes of pretraining.
CLUSTERS = 64
NEVER = 10**7  # iterations; the last one is validated in any case


class ConfigWriter:
    """Writes the configs of a run into ``out/configs``.

    Args:
        dataset: The data, split.
        out: Folder of the run.
        flip: Whether images may be mirrored.
    """

    def __init__(self, dataset: Dataset, out: Path, flip: bool) -> None:
        self.dataset = dataset
        self.out = out
        self.flip = flip

    def path(self, name: str) -> Path:
        """Where a config lies."""
        return self.out / 'configs' / f'{name}.py'

    def data(self) -> Path:
        """Write ``data.py``."""
        photos = self.dataset.photos
        roots = {
            name: osp.relpath(self.dataset.splits[name].root, photos)
            for name in ('train', 'val')
        }
        return self._write(
            'data',
            DATA,
            root=_folder(photos),
            classes=''.join(
                f'        {name!r},\n' for name in self.dataset.classes
            ).rstrip('\n'),
            pipelines='' if self.flip else NO_FLIP,
            pipeline='' if self.flip else '\n        pipeline=train_pipeline,',
            here=HERE,
            **{n: '' if r == '.' else _folder(r) for n, r in roots.items()},
        )

    def pretrain(self, length: Length, photos: int, clusters: int) -> Path:
        """Write ``pretrain.py``.

        Args:
            length: Of the pretraining.
            photos: Number of photographs.
            clusters: Number of clusters of regions, the pseudo-classes.
        """
        return self._write(
            'pretrain',
            PRETRAIN,
            photos=photos,
            regions='the boxes of ../data/regions.json (selective search)',
            train=self._train('pretrain'),
            root=_folder(self.dataset.photos),
            clusters=clusters,
            flip='' if self.flip else '\n    flip_prob=0.0,',
            **_fields(length),
        )

    def detector(
        self,
        name: str,
        length: Length,
        checkpoint: str | None = None,
        validations: int = VALIDATIONS,
    ) -> Path:
        """Write ``imagenet.py`` or ``retod.py``.

        Args:
            name: ``'imagenet'`` or ``'retod'``.
            length: Of the fine-tuning.
            checkpoint: Of the pretraining, relative to the run's folder;
                ``None`` for the ImageNet weights.
            validations: Number of validations, the last one at the end.
        """
        start, load_from = 'from ImageNet weights alone', checkpoint
        modules = "['backbone']"
        if checkpoint is None:
            load_from = 'weights/efficientnet-lite0_imagenet.pth'
        else:
            start = 'from the pretraining of pretrain.py'
            modules = '_base_.pretrained_modules'
        val_interval = -(-length.iters // validations)
        if length.seconds is not None:  # the run is to end by the clock
            val_interval = f'{NEVER}'
        return self._write(
            name,
            DETECTOR,
            start=start,
            train=self._train(name),
            test=self._command('test.py', name, f'{name}/CHECKPOINT.pth')
            + f' --work-dir test-{name}-tta --tta',
            num_classes=len(self.dataset.classes),
            val_interval=val_interval,
            load_from=load_from,
            modules=modules,
            **_fields(length),
        )

    def _train(self, name: str) -> str:
        return self._command('train.py', name) + f' --work-dir {name}'

    def _command(self, tool: str, name: str, *args: str) -> str:
        """A command to run in the run's folder."""
        parts = [str(installed('tools', tool)), f'configs/{name}.py', *args]
        return f'python {" ".join(parts)}'

    def _write(self, name: str, template: str, **fields) -> Path:
        """Fill in and write a config; one that is there may be the same."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = template.format(**fields)
        if not path.is_file() or path.read_text(encoding='utf-8') != text:
            write_atomically(text.encode(), path)
        return path


def _folder(path: str) -> str:
    """A folder as configs write it, with a slash at the end."""
    return Path(path).as_posix().rstrip('/') + '/'


def _fields(length: Length) -> dict:
    """What the templates of trainings have in common."""
    budget = '' if length.seconds is None else f', seconds={length.seconds}'
    return dict(
        iters=length.iters,
        cost=length,
        budget=f"dict(type='mmfgl.BudgetHook'{budget})",
        log=max(1, min(10, length.iters // 10)),
        save=max(1, length.iters // 4),
        here=HERE,
        fgl=FGL,
    )
