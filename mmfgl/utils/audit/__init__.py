"""The audit of annotation files before training and testing."""

from .coco import Use, audit_coco, audit_content, write_mended
from .config import audit_config
from .leaks import shared_images
from .reading import read_coco
from .report import AuditReport, Finding

__all__ = [
    'AuditReport',
    'Finding',
    'Use',
    'audit_coco',
    'audit_config',
    'audit_content',
    'read_coco',
    'shared_images',
    'write_mended',
]
