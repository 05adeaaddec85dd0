"""The export of a config and checkpoint, or of a run's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmfgl.datasets.image_names import find_images
from mmfgl.deploy.onnx import compare_on_images, need, write_onnx
from mmfgl.deploy.support import preprocessing
from mmfgl.utils.weights import (
    check_test_checkpoint,
    safe_load,
    use_safe_loading,
)

ARMS = ('retod', 'imagenet')  # of a run's folder, with pretraining first
MAX_IMAGES = 20  # of a folder, spread over it


def export(
    source: str | Path,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    check: Sequence[str | Path] = (),
) -> Path:
    """Write a detector as an ONNX model, and compare it with PyTorch.

    Args:
        source: Config of a detector, or the folder of an ``mmfgl run``, of
            which the detector of the higher AP is taken (before its test, the
            one with pretraining).
        checkpoint: Its checkpoint; that of the run by default.
        out: File to write. Defaults to ``model.onnx`` beside the checkpoint,
            or in the run's folder.
        check: Images, or folders of images of which ``MAX_IMAGES`` are taken,
            to compare the two on; the result is printed.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ImportError: onnx or onnxruntime is missing.
        RuntimeError: The checkpoint does not fit the config, or the graph
            fits images of one size only.
        ValueError: The detector cannot be exported; names the parts.
    """
    for name in ('onnx', 'onnxruntime'):
        need(name)
    source = Path(source)
    if source.is_dir():
        out = out or source / 'model.onnx'
        source, checkpoint = _of_run(source, checkpoint)
    if checkpoint is None:
        raise ValueError(f'{source} needs the checkpoint to export')
    for path in (source, Path(checkpoint)):
        if not path.is_file():
            raise FileNotFoundError(f'no such file: {path}')
    images = [image for path in check for image in _images(Path(path))]
    out = Path(out or Path(checkpoint).with_name('model.onnx'))
    cfg = Config.fromfile(source)
    preprocessing(cfg)  # refused before minutes of work
    use_safe_loading(False)
    weights = str(checkpoint)
    model = init_detector(cfg, weights, palette='random', device='cpu')
    check_test_checkpoint(model, safe_load(weights, False))
    content = write_onnx(model, cfg, weights, out)
    print(f'wrote {out} ({len(content) / 2**20:.1f} MB)')
    if images:
        print(compare_on_images(model, cfg, content, images))
    return out


def _of_run(
    folder: Path, checkpoint: str | Path | None
) -> tuple[Path, str | Path]:
    """Config and checkpoint of a run's best detector."""
    arms = list(ARMS)
    results = folder / 'results.json'
    if results.is_file():  # the test has told which one is better
        best = json.loads(results.read_text(encoding='utf-8')).get('best')
        arms.sort(key=lambda arm: arm != best)
    for arm in arms:
        config, work_dir = folder / f'configs/{arm}.py', folder / arm
        if not config.is_file():
            continue
        if checkpoint is None and (work_dir / 'last_checkpoint').is_file():
            # of a run that was moved, the file names its old folder
            latest = find_latest_checkpoint(str(work_dir))
            checkpoint = work_dir / Path(latest).name
        if checkpoint is not None:
            return config, checkpoint
    raise FileNotFoundError(
        f'{folder} holds no trained detector of `mmfgl run` (configs/ and '
        f'last_checkpoint of {" or ".join(ARMS)}): wait for its training, or '
        'give a config and a checkpoint'
    )


def _images(path: Path) -> list[str]:
    """An image, or some of a folder."""
    if path.is_file():
        return [str(path)]
    if not path.is_dir():
        raise FileNotFoundError(f'no such image or folder: {path}')
    names = find_images(str(path)).names
    if not names:
        raise FileNotFoundError(f'no image in {path}')
    step = max(1, len(names) // MAX_IMAGES)
    return [str(path / name) for name in names[::step][:MAX_IMAGES]]
