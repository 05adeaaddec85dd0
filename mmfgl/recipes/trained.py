"""Detectors that are trained already: of a run, or of one's own config."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmdet.apis import init_detector
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.fileio import list_from_file

from mmfgl.recipes.results import FILE, read_results
from mmfgl.recipes.steps import ARMS
from mmfgl.utils.resume import find_checkpoint
from mmfgl.utils.weights import (
    check_checkpoint,
    check_opened_weights,
    check_test_checkpoint,
    safe_load,
    use_safe_loading,
)

SCORE_THR = 0.3  # where no test has told a better one


@dataclass(frozen=True)
class Trained:
    """A trained detector.

    Attributes:
        config: Its config.
        checkpoint: Its checkpoint.
        title: For people.
        score_thr: Least score to show: of the highest F1 in validation, if
            that was tested.
    """

    config: Path
    checkpoint: Path
    title: str
    score_thr: float = SCORE_THR


def find_trained(
    source: str | Path, checkpoint: str | Path | None = None
) -> Trained:
    """Find the best detector of a run, or take a config and a checkpoint.

    Args:
        source: Folder of an :func:`mmfgl.run`, or a config. Of a run whose
            tests are not done, the detector with pretraining is taken, if it
            is trained, else the other.
        checkpoint: Of the config; none of a run.

    Raises:
        FileNotFoundError: There is no such file, or nothing is trained yet.
        ValueError: A checkpoint is missing, or is one too many.
    """
    source = Path(source)
    if source.is_dir():
        if checkpoint is not None:
            raise ValueError(
                f'{source} is a folder: give the folder of a run alone, or '
                'the config that belongs to the checkpoint'
            )
        return _of_run(source)
    if not source.is_file():
        raise FileNotFoundError(f'{source} does not exist')
    if checkpoint is None:
        raise ValueError(f'{source} is a config: give its checkpoint too')
    check_checkpoint(str(checkpoint))
    return Trained(source, Path(checkpoint), source.stem)


def _of_run(run_dir: Path) -> Trained:
    arms, thresholds = list(reversed(ARMS)), {}
    if (run_dir / FILE).is_file():
        results = read_results(run_dir)
        arms = [results['best']]
        row = results['arms'][arms[0]]['plain']
        thresholds[arms[0]] = row['score_thr']
    for arm in arms:
        config = run_dir / 'configs' / f'{arm}.py'
        checkpoint = find_checkpoint(str(run_dir / arm), check=False)
        if config.is_file() and checkpoint is not None:
            title = f'{run_dir.absolute().name} ({ARMS[arm]})'
            thr = thresholds.get(arm, SCORE_THR)
            return Trained(config, Path(checkpoint), title, thr)
    raise FileNotFoundError(
        f'{run_dir} has no trained detector (configs/ and checkpoints of '
        f'{" or ".join(arms)}): give the folder of an `mmfgl run` (the same '
        'command goes on with an unfinished one), or a config and a checkpoint'
    )


def load_detector(
    trained: Trained, device: str | None = None, trust: bool = False
) -> BaseDetector:
    """Build a trained detector and load its checkpoint strictly.

    Args:
        trained: What :func:`find_trained` gave.
        device: By default a GPU if there is one.
        trust: Unpickle whatever the checkpoint holds, which can run any code.

    Returns:
        The detector as of mmdet's ``init_detector``, in evaluation mode.

    Raises:
        CheckpointError: The checkpoint cannot be read.
        RuntimeError: It does not belong to the config.
    """
    use_safe_loading(trust)
    checkpoint = str(trained.checkpoint)
    cfg = Config.fromfile(trained.config)
    check_opened_weights(cfg.model)
    model = init_detector(
        cfg,
        checkpoint,
        palette='random',
        device=device or get_device(),
    )
    check_test_checkpoint(model, safe_load(checkpoint, trust))
    classes = (model.cfg.get('metainfo') or {}).get('classes')
    if classes:  # what the parents take are COCO's
        if isinstance(classes, str):
            classes = list_from_file(classes)
        model.dataset_meta['classes'] = tuple(classes)
    return model
