"""The export of a config and checkpoint, or of a run's folder."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmengine.config import Config

from mmfgl.datasets.image_names import find_images
from mmfgl.deploy.onnx import compare_on_images, need, write_onnx
from mmfgl.deploy.support import preprocessing
from mmfgl.recipes.trained import find_trained, load_detector
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.machine import machine_settings

MAX_IMAGES = 20  # of a folder, spread over it


def export(
    source: str | Path,
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    check: Sequence[str | Path] = (),
    trust: bool = False,
) -> Path:
    """Write a detector as an ONNX model, and compare it with PyTorch.

    Args:
        source: Config of a detector, or the folder of an ``mmfgl run``, of
            which the detector of the higher AP is taken (before its test, the
            one with pretraining).
        checkpoint: Of the config; none of a run.
        out: File to write. Defaults to ``model.onnx`` beside the checkpoint,
            or in the run's folder.
        check: Images, or folders of images of which ``MAX_IMAGES`` are taken,
            to compare the two on; the result is printed, and kept as JSON in
            ``out`` with the suffix ``.check.json``.
        trust: Unpickle whatever the checkpoint holds, which can run any code.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ImportError: onnx or onnxruntime is missing.
        RuntimeError: The checkpoint does not fit the config, or the graph
            fits images of one size only.
        ValueError: A checkpoint is missing or one too many, or the detector
            cannot be exported; names the parts.
    """
    for name in ('onnx', 'onnxruntime'):
        need(name)
    trained = find_trained(source, checkpoint)
    images = [image for path in check for image in _images(Path(path))]
    folder = source if Path(source).is_dir() else trained.checkpoint.parent
    out = Path(out or Path(folder, 'model.onnx'))
    cfg = Config.fromfile(trained.config)
    preprocessing(cfg)  # refused before minutes of work
    model = load_detector(trained, 'cpu', trust)
    content = write_onnx(model, cfg, str(trained.checkpoint), out)
    print(f'wrote {out} ({len(content) / 2**20:.1f} MB)')
    if images:
        found = compare_on_images(model, cfg, content, images)
        print(found)
        words = [source, *([checkpoint] if checkpoint else [])]
        words += ['--out', out, *(['--trust-checkpoint'] if trust else [])]
        words += ['--check', *check]
        record = dict(
            command=shlex.join(['mmfgl', 'export', *map(str, words)]),
            machine=machine_settings(),
            settings=dict(model=model.cfg.model.type, config=trained.title),
            metrics=asdict(found),
        )
        text = json.dumps(record, indent=1)
        write_atomically(f'{text}\n'.encode(), out.with_suffix('.check.json'))
    return out


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
