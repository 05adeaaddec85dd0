from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger

from mmfgl.engine.hooks import RegionTeacherHook

TEACHER = dict(model='x', weights='w.pth', sha256='a' * 64, licence='CC0-1.0')


def runner_of(files=('regions.json',), **tasks):
    model = torch.nn.Module()
    model.tasks = tasks
    logger = MMLogger.get_instance('mmfgl-test')
    proposers = [
        dict(type='mmfgl.FileRegions', ann_file=f'./{file}') for file in files
    ]
    pipeline = [dict(proposer=dict(proposers=proposers))]
    cfg = dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))
    return SimpleNamespace(model=model, logger=logger, cfg=cfg)


class Task:
    error = None
    region_file = 'regions.json'

    def open_file(self):
        if self.error:
            raise self.error
        return SimpleNamespace(meta=dict(teacher=TEACHER))


def test_checkpoint_says_the_teacher():
    hook, runner = RegionTeacherHook(), runner_of(embed=Task())
    hook.before_train(runner)
    checkpoint = dict(meta=dict(iter=3))
    hook.before_save_checkpoint(runner, checkpoint)
    assert checkpoint['meta'] == dict(iter=3, region_teacher=TEACHER)


def test_stops_before_the_first_iteration():
    task = Task()
    task.error = ValueError('no embeddings')
    with pytest.raises(ValueError, match='no embeddings'):
        RegionTeacherHook().before_train(runner_of(embed=task))
    with pytest.raises(KeyError, match='leave the hook out'):
        RegionTeacherHook().before_train(runner_of(objectness=Task()))


def test_proposers_read_the_same_file():
    runner = runner_of(['regions.json', 'other.json'], embed=Task())
    with pytest.raises(ValueError, match="reads './other.json', but Region"):
        RegionTeacherHook().before_train(runner)
