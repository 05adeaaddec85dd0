"""Export of a detector to ONNX, and its comparison in ONNX Runtime."""

from __future__ import annotations

import inspect
import io
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from os.path import basename
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from mmfgl.datasets.guarded_pipeline import inference_pipeline, reason_of
from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.deploy.graph import DetectorGraph
from mmfgl.deploy.support import check_supported, preprocessing
from mmfgl.evaluation import greedy_match
from mmfgl.models.layers import pairwise_iou
from mmfgl.utils.atomic_files import write_atomically
from mmfgl.utils.names import printable
from mmfgl.version import __version__

OPSET = 17  # RoIAlign of half pixels needs 16
OUTPUTS = ('boxes', 'scores', 'labels')
# (height, width) of the image that is traced, and of one that it must suit
TRACED, OTHER = (96, 160), (224, 128)
MATCH_IOU = 0.9


def need(name: str) -> ModuleType:
    """A package of the extra ``export``.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"the export needs {name}: pip install 'mmfgl[export]'"
        ) from error


def to_onnx(model: nn.Module, metadata: dict[str, Any]) -> bytes:
    """A detector as an ONNX model, batch 1, for images of any size.

    Its input ``image`` and its outputs ``boxes``, ``scores`` and ``labels``
    are those of :meth:`DetectorGraph.forward`.

    Args:
        model: The detector.
        metadata: Further facts for the model's ``metadata_props``; what is no
            string becomes JSON.

    Raises:
        ImportError: onnx or onnxruntime is missing.
        RuntimeError: The graph fits images of the traced size only.
        ValueError: The detector has parts that cannot be exported.
    """
    onnx = need('onnx')
    check_supported(model)
    graph = DetectorGraph(model)
    options: dict[str, Any] = {}
    if 'dynamo' in inspect.signature(torch.onnx.export).parameters:
        options['dynamo'] = False  # torch 2.1 has no other exporter
    dynamic = {name: {0: 'detections'} for name in OUTPUTS}
    dynamic['image'] = {2: 'height', 3: 'width'}
    file = io.BytesIO()
    with warnings.catch_warnings():
        # of branches on what is the same for every image, and of its age
        warnings.simplefilter('ignore')
        torch.onnx.export(
            graph,
            (noise(TRACED),),
            file,
            opset_version=OPSET,
            input_names=['image'],
            output_names=list(OUTPUTS),
            dynamic_axes=dynamic,
            **options,
        )
    proto = onnx.load_from_string(file.getvalue())
    facts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
    }
    onnx.helper.set_model_props(proto, facts)
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    _try_other_size(graph, content)
    return content


def noise(size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) image of noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, 3, *size, generator=generator)


def open_session(content: bytes) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model, on the CPU."""
    runtime = need('onnxruntime')
    return runtime.InferenceSession(
        content, providers=['CPUExecutionProvider']
    )


def _try_other_size(graph: DetectorGraph, content: bytes) -> None:
    """Run the exported graph at another size than the traced one."""
    image = noise(OTHER)
    with torch.no_grad():
        wanted = graph(image)
    session, problem = open_session(content), None
    try:
        got = session.run(None, {'image': image.numpy()})
    except Exception as error:  # ONNX Runtime's own have no common class
        problem = str(error).split('\n')[0]
    else:
        same = compare(wanted, tuple(map(torch.from_numpy, got)))
        if not same.matches == same.torch == same.onnx:
            problem = f'it gives other detections: {same}'
    if problem:
        raise RuntimeError(
            f'the graph was traced at {TRACED[0]}x{TRACED[1]} pixels and does '
            f'not fit {OTHER[0]}x{OTHER[1]}; a part of the detector fixes the '
            f'size of its images: {problem}'
        )


@dataclass
class Agreement:
    """How the detections of PyTorch and ONNX Runtime agree.

    Attributes:
        images: Number of images.
        torch: Detections of PyTorch.
        onnx: Detections of ONNX Runtime.
        matches: Pairs of one class with an IoU of at least ``MATCH_IOU``.
        box: Largest difference of a pair's coordinates, network-input pixels.
        score: Largest difference of a pair's scores.
    """

    images: int = 0
    torch: int = 0
    onnx: int = 0
    matches: int = 0
    box: float = 0.0
    score: float = 0.0

    def add(self, other: Agreement) -> None:
        """Count another one's images too."""
        for name in ('images', 'torch', 'onnx', 'matches'):
            total = getattr(self, name) + getattr(other, name)
            setattr(self, name, total)
        self.box = max(self.box, other.box)
        self.score = max(self.score, other.score)

    def __str__(self) -> str:
        """One sentence."""
        return (
            f'{self.images} images: {self.matches} detections match (same '
            f'class, IoU >= {MATCH_IOU}) of {self.torch} of PyTorch and '
            f'{self.onnx} of ONNX Runtime; they differ by at most '
            f'{self.box:.2g} pixels of the network input and {self.score:.2g} '
            'in score'
        )


def compare(
    wanted: tuple[Tensor, Tensor, Tensor], got: tuple[Tensor, Tensor, Tensor]
) -> Agreement:
    """Compare the detections in one image.

    Both are (N, 4) boxes, (N,) scores and (N,) labels. Each detection of
    ``wanted``, the highest score first, takes the best of ``got`` that is
    left.
    """
    overlap = pairwise_iou(wanted[0], got[0])
    overlap *= wanted[2][:, None] == got[2]
    match = torch.from_numpy(greedy_match(overlap.numpy(), MATCH_IOU))
    rows = (match >= 0).nonzero()[:, 0]
    box, score = (
        float((one[rows] - other[match[rows]]).abs().max()) if len(rows) else 0
        for one, other in zip(wanted[:2], got[:2], strict=True)
    )
    counts = len(wanted[0]), len(got[0]), len(rows)
    return Agreement(1, *counts, box, score)


@torch.no_grad()
def compare_on_images(
    model: nn.Module, cfg: Config, content: bytes, images: Sequence[str]
) -> Agreement:
    """Compare plain predictions of a detector with its exported graph.

    Args:
        model: The detector.
        cfg: Its config, whose test pipeline reads the images.
        content: The ONNX model.
        images: Image files; of one that cannot be used, a line is printed.
    """
    pipeline = inference_pipeline(get_test_pipeline_cfg(cfg))
    session, total = open_session(content), Agreement()
    for path in images:
        try:
            batch = pseudo_collate([pipeline(dict(img_path=path, img_id=0))])
        except (UnreadableImageError, cv2.error) as error:
            print(f'left out {printable(path)}: {reason_of(error)}')
            continue
        data = model.data_preprocessor(batch, False)
        (sample,) = model.predict(
            data['inputs'], data['data_samples'], rescale=False
        )
        found = sample.pred_instances
        height, width = sample.img_shape  # without the padding
        image = data['inputs'][:, :, :height, :width].contiguous()
        got = session.run(None, {'image': image.numpy().astype(np.float32)})
        wanted = found.bboxes, found.scores, found.labels
        total.add(compare(wanted, tuple(map(torch.from_numpy, got))))
    return total


def write_onnx(
    model: nn.Module, cfg: Config, checkpoint: str, out: str | Path
) -> bytes:
    """Export a detector to a file that says what is to know of it.

    ``metadata_props`` hold ``preprocessing`` (:func:`preprocessing`) and
    ``classes`` as JSON, ``config``, ``checkpoint`` and ``mmfgl``'s version.

    Returns:
        The content of the file.
    """
    metadata = dict(
        preprocessing=preprocessing(cfg),
        classes=list(model.dataset_meta['classes']),
        config=basename(cfg.filename or ''),
        checkpoint=basename(checkpoint),
        mmfgl=__version__,
    )
    content = to_onnx(model, metadata)
    write_atomically(content, out)
    return content
