"""RegionEmbeddingTask: targets of the region file, tokens of its boxes."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmfgl.datasets.region_file import write_embeddings
from mmfgl.models.selfsup import TaskContext
from mmfgl.models.selfsup.tasks.region_embedding import rois_with_rows
from mmfgl.testing import region_batch, tiny_retod_cfg
from mmfgl.testing.models import CHANNELS
from mmfgl.testing.retod import PLAIN_WIDTH, tiny_plain_detector_cfg

COUNT, WIDTH = 12, 6  # of the region file


@pytest.fixture
def embed(tmp_path):
    """Config of the task, with a region file of one image."""
    path = tmp_path / 'r.json'
    rows = np.random.default_rng(0).normal(size=(COUNT, WIDTH))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    beside = write_embeddings(str(path), rows.astype(np.float16))
    content = dict(
        info=dict(embeddings=beside, teacher=dict(model='x')),
        images=[dict(id=1, file_name='a.jpg', width=64, height=64)],
        annotations=[
            dict(id=i, image_id=1, category_id=1, bbox=[i, i, 9, 9])
            for i in range(COUNT)
        ],
    )
    path.write_text(json.dumps(content))
    return dict(
        type='mmfgl.RegionEmbeddingTask',
        region_file=str(path),
        in_channels=CHANNELS,
        out_channels=WIDTH,
        hidden_channels=16,
    )


def model_of(retod, *tasks, **changes):
    cfg = tiny_retod_cfg('objectness', tasks=list(tasks), **changes)
    return retod.build(cfg=cfg)


OBJECTNESS = dict(type='mmfgl.ObjectnessTask')


@pytest.mark.parametrize('objects', [3, 0])
@pytest.mark.parametrize('plain', [False, True], ids=['fgl', 'plain'])
@pytest.mark.parametrize('tasks', [(), (OBJECTNESS,)], ids=['alone', 'with'])
def test_trains_every_parameter(retod, embed, tasks, plain, objects):
    changes = {}
    if plain:
        embed['in_channels'] = PLAIN_WIDTH
        changes['detector'] = tiny_plain_detector_cfg(num_classes=1)
    model = model_of(retod, *tasks, embed, **changes)
    losses = retod.losses_of(model, num_objects=objects)
    assert losses['loss_embed'].dtype == torch.float32
    assert losses['embed/regions'] == 2 * 2 * objects  # 2 images of 2 views
    assert (losses['loss_embed'] > 0) == bool(objects)
    retod.check_gradients(model, losses)


def test_amp(retod, embed):
    model = model_of(retod, embed)
    batch = retod.batch_of(model)
    with torch.autocast('cpu', torch.bfloat16):
        losses = retod.losses_of(model, batch)
    assert losses['loss_embed'].dtype == torch.float32
    retod.check_gradients(model, losses)


def test_rois_carry_their_rows():
    batch = region_batch(num_objects=3, num_regions=2)
    samples = batch['data_samples']
    views = torch.cat(batch['inputs'])
    samples[1].object_rows = torch.tensor([7, -1, 8, 9, 10, 11])
    samples[0].rows = torch.tensor([-1, 4])
    rois, rows = rois_with_rows(TaskContext(None, views, samples))
    # view v of image b is v * 2 + b
    assert rois[:, 0].tolist() == [0] * 3 + [2] * 3 + [0, 2, 1, 1, 3, 3, 3]
    assert rows.tolist() == [*range(6), 4, 4, 7, 8, 9, 10, 11]
    assert torch.equal(rois[7, 1:], samples[0].boxes[1, 1])
    assert torch.equal(rois[8, 1:], samples[1].objects[0, 1:].float())
    for sample in samples:
        del sample.rows, sample.object_rows
    with pytest.raises(KeyError, match="no 'rows' and no 'object_rows'"):
        rois_with_rows(TaskContext(None, views, samples))


def test_learns_the_embeddings_of_the_rows(retod, embed):
    """A step changes the loss of the rows' targets, not of others'."""
    model = model_of(retod, embed)
    task = model.tasks['embed']
    rows = torch.tensor([3, 0, 11])
    own = np.load(next(iter(embed_file(embed).parent.glob('*.npy'))))
    expected = F.normalize(torch.from_numpy(own[rows.numpy()]).float())
    torch.testing.assert_close(task.targets(rows), expected)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    batch = retod.batch_of(model)
    first = None
    for _ in range(15):
        losses = retod.losses_of(model, batch)
        first = first or losses['embed/cosine'].item()
        optimizer.zero_grad()
        losses['loss_embed'].backward()
        optimizer.step()
    assert losses['embed/cosine'] < 0.75 * first


def test_a_file_that_is_replaced_while_it_trains(retod, embed):
    """Rows stay those of the file that the proposers have opened."""
    task, rows = model_of(retod, embed).tasks['embed'], torch.arange(COUNT)
    before = task.targets(rows)
    path = embed_file(embed)
    content = json.loads(path.read_text())
    other = np.random.default_rng(1).normal(size=(COUNT, WIDTH))
    beside = write_embeddings(str(path), other.astype(np.float16))
    content['info']['embeddings'] = beside
    path.write_text(json.dumps(content))
    assert torch.equal(task.targets(rows), before)
    again = model_of(retod, embed).tasks['embed'].targets(rows)
    assert not torch.allclose(again, before, atol=0.1)


def embed_file(embed):
    from pathlib import Path

    return Path(embed['region_file'])


def test_errors_name_what_to_do(retod, embed):
    with pytest.raises(ValueError, match=f'but the tokens .* {CHANNELS} wide'):
        model_of(retod, dict(embed, in_channels=CHANNELS + 1))
    model = model_of(retod, dict(embed, out_channels=WIDTH + 1))
    with pytest.raises(ValueError, match=f'set out_channels={WIDTH} of'):
        retod.losses_of(model)
    model = model_of(retod, embed)
    batch = retod.batch_of(model)
    batch['data_samples'][0].object_rows += COUNT
    with pytest.raises(ValueError, match='must read the same file'):
        retod.losses_of(model, batch)
    path = embed_file(embed)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(content, info={})))
    retod.losses_of(model)  # the file is open
    model = model_of(retod, embed)
    with pytest.raises(ValueError, match='propose_regions.py --teacher'):
        retod.losses_of(model)
