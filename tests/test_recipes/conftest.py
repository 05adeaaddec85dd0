import json

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmfgl.recipes.photos import read_photos
from mmfgl.testing import randomise_weights, tiny_coco, tiny_fgl_cfg

CLASSES = ('cell', 'nucleus', 'thing')


def config():
    resize = dict(type='Resize', scale=(96, 96), keep_ratio=True)
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    load = dict(type='LoadImageFromFile')
    pipeline = [
        *(load, resize, dict(type='LoadAnnotations', with_bbox=True)),
        dict(type='PackDetInputs', meta_keys=keys),
    ]
    flips = [dict(type='RandomFlip', prob=float(p)) for p in (0, 1)]
    views = [[resize], flips, [dict(type='PackDetInputs')]]
    return Config(
        dict(
            default_scope='mmdet',
            metainfo=dict(classes=CLASSES),
            model=tiny_fgl_cfg(num_classes=len(CLASSES)),
            test_dataloader=dict(
                dataset=dict(type='CocoDataset', pipeline=pipeline)
            ),
            tta_model=dict(type='mmfgl.RoITTAModel'),
            tta_pipeline=[load, dict(type='TestTimeAug', transforms=views)],
        )
    )


@pytest.fixture(scope='session')
def run_dir(tmp_path_factory):
    """A finished run whose better detector, retod, is a tiny one."""
    root = tmp_path_factory.mktemp('run')
    for folder in ('configs', 'retod', 'data/annotations'):
        (root / folder).mkdir(parents=True)
    cfg = config()
    cfg.dump(root / 'configs/retod.py')
    model = randomise_weights(MODELS.build(cfg.model), std=0.1)
    torch.save(dict(state_dict=model.state_dict()), root / 'retod/iter_5.pth')
    # where the run was before it was moved
    (root / 'retod/last_checkpoint').write_text('/old/place/retod/iter_5.pth')
    names = enumerate(reversed(CLASSES), 11)
    content = dict(categories=[dict(id=i, name=name) for i, name in names])
    (root / 'data/annotations/val.json').write_text(json.dumps(content))
    tests = {m: dict(score_thr=t) for m, t in (('plain', 0.01), ('tta', 0.02))}
    results = dict(best='retod', arms=dict(retod=tests))
    (root / 'results.json').write_text(json.dumps(results))
    return root


@pytest.fixture(scope='session')
def digits(tmp_path_factory):
    """6 photographs to train on, 3 for val, 2 without labels."""
    return tiny_coco(tmp_path_factory.mktemp('digits'), 6, 3, 2)


@pytest.fixture(scope='session')
def dataset(digits):
    return read_photos(digits)
