"""Tiny models with every task and part, for runs on two ranks."""

import json

import numpy as np
from mmengine.dist import barrier, get_rank

from mmfgl.datasets.region_file import write_embeddings
from mmfgl.testing import tiny_fgl_cfg, tiny_retod_cfg
from mmfgl.testing.models import CHANNELS, tiny_backbone_cfg
from mmfgl.testing.retod import TASKS

OBJECTS = 3  # of a view or image
WIDTH = 6  # of the embeddings
ROWS = 2 * OBJECTS  # of the region file
KINDS = ('retod', 'fgl')
# from the start, and one for each view
TEACHER_BOXES = dict(start=0.0, num=1, score_thr=0.0, iou_thr=1.0)


def write_regions(folder):
    """A region file, by the main rank."""
    if get_rank() != 0:
        barrier()
        return
    path = folder / 'regions.json'
    rows = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    beside = write_embeddings(str(path), rows.astype(np.float16))
    boxes = [
        dict(id=i, image_id=1, category_id=1, bbox=[i, i, 9, 9])
        for i in range(ROWS)
    ]
    content = dict(
        info=dict(embeddings=beside, teacher=dict(model='x')),
        images=[dict(id=1, file_name='a.jpg', width=64, height=64)],
        annotations=boxes,
    )
    path.write_text(json.dumps(content))
    barrier()


def config_of(kind, folder, teacher_boxes=None):
    """Config of ReToD with every task, or of FGL Faster R-CNN."""
    if kind == 'fgl':
        return tiny_fgl_cfg()
    embed = dict(
        type='mmfgl.RegionEmbeddingTask',
        region_file=f'{folder}/regions.json',
        in_channels=CHANNELS,
        out_channels=WIDTH,
        hidden_channels=16,
    )
    dense = dict(
        type='mmfgl.DenseDistillTask',
        teacher=dict(
            type='mmfgl.FrozenTeacher',
            backbone=tiny_backbone_cfg(),
            data_preprocessor=dict(mean=[127.5] * 3, std=[64.0] * 3),
        ),
        backbone=[None, None, (32, 2)],
    )
    objectness = dict(TASKS['objectness'], teacher_boxes=teacher_boxes)
    own = TASKS | dict(objectness=objectness)
    return tiny_retod_cfg(*TASKS, tasks=[*own.values(), embed, dense])


def scope_of(kind):
    return 'mmpretrain' if kind == 'retod' else 'mmdet'
