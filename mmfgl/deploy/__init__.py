"""Export of detectors to ONNX."""

from .export import export
from .graph import DetectorGraph
from .onnx import Agreement, compare_on_images, to_onnx, write_onnx
from .support import check_supported, preprocessing

__all__ = [
    'Agreement',
    'DetectorGraph',
    'check_supported',
    'compare_on_images',
    'export',
    'preprocessing',
    'to_onnx',
    'write_onnx',
]
