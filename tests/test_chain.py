"""From unlabelled images to detections, with real Runners and files."""

import copy
import itertools
from pathlib import Path

import cv2
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmfgl.testing import tiny_coco, tiny_fgl_cfg, tiny_retod_cfg

COUNTER = itertools.count()
CLASSES = tuple('0123456789')
TASKS = ('objectness', 'distill', 'mask', 'diversity')
SHARED = [
    'backbone',
    'neck',
    'rpn_head',
    'roi_head.bbox_roi_extractor',
    'roi_head.tokenizer',
    'roi_head.transformer',
    'roi_head.bbox_head.fc_reg',
    'roi_head.bbox_head.fc_quality',
]


class Snapshot(Hook):
    """Keeps the model's state as training starts."""

    def before_train(self, runner):
        self.state = copy.deepcopy(runner.model.state_dict())


@pytest.fixture(scope='module', autouse=True)
def scope():
    # Runners leave their default scope behind
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Digit scenes, one of the unlabelled images corrupt."""
    root = tiny_coco(tmp_path_factory.mktemp('chain') / 'data')
    broken = sorted((root / 'unlabelled').iterdir())[1]
    broken.write_bytes(b'no image')
    return root


def settings(work_dir, iters, **changes):
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=iters)
    return Config(
        dict(
            work_dir=str(work_dir),
            experiment_name=f'chain_{next(COUNTER)}',
            randomness=dict(seed=0),
            train_cfg=dict(
                type='IterBasedTrainLoop', max_iters=iters, val_interval=iters
            ),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-3)),
            default_hooks=dict(checkpoint=checkpoint),
            **changes,
        )
    )


def pretrain_cfg(data, work_dir, iters=3, hooks=(), momentum=0.9, **changes):
    cells = dict(type='mmfgl.GridRegions', cell_sizes=(32, 48))
    pipeline = [
        dict(type='mmfgl.LoadUnlabelledImage'),
        dict(
            type='mmfgl.RegionViews',
            proposer=cells,
            object_proposer=cells,
            view_size=64,
            num_regions=6,
        ),
        dict(type='mmfgl.PackRegionViews'),
    ]
    return settings(
        work_dir,
        iters,
        default_scope='mmpretrain',
        model=tiny_retod_cfg(*TASKS),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='mmfgl.UnlabelledImages',
                data_root=str(data),
                data_prefix=dict(img_path='unlabelled/'),
                pipeline=pipeline,
            ),
        ),
        custom_hooks=[
            dict(type='mmfgl.TeacherHook', momentum=momentum),
            dict(type='mmfgl.UnreadableImageHook'),
            *hooks,
        ],
        **changes,
    )


def detector_cfg(data, work_dir, iters=2, modules=SHARED, **changes):
    keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=keys),
    ]

    def loader(split, sampler):
        return dict(
            batch_size=2,
            num_workers=0,
            sampler=dict(type=sampler, shuffle=split == 'train'),
            dataset=dict(
                type='CocoDataset',
                data_root=str(data),
                ann_file=f'annotations/{split}.json',
                data_prefix=dict(img=f'{split}/'),
                metainfo=dict(classes=CLASSES),
                pipeline=pipeline,
                test_mode=split == 'val',
            ),
        )

    val = loader('val', 'DefaultSampler')
    evaluator = dict(
        type='CocoMetric', ann_file=f'{data}/annotations/val.json'
    )
    return settings(
        work_dir,
        iters,
        default_scope='mmdet',
        model=tiny_fgl_cfg(num_classes=10),
        train_dataloader=loader('train', 'InfiniteSampler'),
        val_dataloader=val,
        test_dataloader=val,
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        val_cfg=dict(type='ValLoop'),
        test_cfg=dict(type='TestLoop'),
        visualizer=dict(type='DetLocalVisualizer'),
        custom_hooks=[dict(type='mmfgl.CheckpointChainHook', modules=modules)],
        **changes,
    )


def train(cfg, *hooks):
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return runner


def log_of(runner):
    return next(Path(runner.log_dir).glob('*.log')).read_text()


def load(path):
    return torch.load(path, map_location='cpu', weights_only=False)


@pytest.fixture(scope='module')
def pretrained(data, tmp_path_factory):
    """Runner and checkpoint of a pretraining of three iterations."""
    work_dir = tmp_path_factory.mktemp('pretrain')
    runner = train(pretrain_cfg(data, work_dir))
    return runner, work_dir / 'iter_3.pth'


@pytest.fixture(scope='module')
def chained(data, pretrained, tmp_path_factory):
    """Runner, start and work dir of a detector trained from it."""
    work_dir, snapshot = tmp_path_factory.mktemp('detector'), Snapshot()
    cfg = detector_cfg(data, work_dir, load_from=str(pretrained[1]))
    cfg.dump(work_dir / 'detector.py')
    return train(cfg, snapshot), snapshot.state, work_dir


def test_pretraining(pretrained):
    runner, path = pretrained
    assert runner.iter == 3 and path.is_file()
    text = log_of(runner)
    assert '1 unreadable images were skipped and replaced' in text
    for name in [f'loss_{task}' for task in TASKS]:
        values = runner.message_hub.get_scalar(f'train/{name}').data[0]
        assert len(values) == 3 and all(abs(v) < 100 for v in values), name


def test_detector_starts_from_the_teacher(pretrained, chained):
    pretrainer, path = pretrained
    runner, start, _ = chained
    text = log_of(runner)
    assert f'Load report of {path}' in text
    assert '100.0 % of the declared modules loaded' in text
    teacher = pretrainer.model.target_generator.state_dict()
    student = pretrainer.model.state_dict()
    keys = [key for key in start if key.startswith(tuple(SHARED))]
    assert len(keys) > 100
    assert all(torch.equal(start[key], teacher[key]) for key in keys)
    assert any(not torch.equal(start[key], student[key]) for key in keys)


def test_detector_trains_and_validates(chained):
    runner, start, _ = chained
    assert runner.iter == 2
    state = runner.model.state_dict()
    for name in (*SHARED, 'roi_head.bbox_head.fc_cls'):
        keys = [key for key in state if key.startswith(name)]
        assert any(not torch.equal(state[k], start[k]) for k in keys), name
    scalars = runner.message_hub.log_scalars
    for name in ('mAP', 'mAP_50', 'mAP_75'):
        value = scalars[f'val/coco/bbox_{name}'].current()
        assert 0 <= value <= 1, name


def test_inferencer(chained, data):
    _, _, work_dir = chained
    path = next((data / 'val').iterdir())
    inferencer = DetInferencer(
        str(work_dir / 'detector.py'),
        str(work_dir / 'iter_2.pth'),
        device='cpu',
        show_progress=False,
    )
    (result,) = inferencer(str(path))['predictions']
    assert 0 < len(result['scores']) <= 10
    assert len(result['bboxes']) == len(result['labels'])
    assert set(result['labels']) <= set(range(10))
    height, width = cv2.imread(str(path)).shape[:2]
    for x1, y1, x2, y2 in result['bboxes']:
        assert 0 <= x1 <= x2 <= width and 0 <= y1 <= y2 <= height


def test_resumed_pretraining(pretrained, data, tmp_path):
    pretrainer, path = pretrained
    snapshot = Snapshot()
    resume = dict(resume=True, load_from=str(path))
    runner = train(pretrain_cfg(data, tmp_path, iters=4, **resume), snapshot)
    assert runner.iter == 4
    for key, value in pretrainer.model.state_dict().items():
        assert torch.equal(snapshot.state[key], value), key
    states = load(tmp_path / 'iter_4.pth')['optimizer']['state'].values()
    assert {int(state['step']) for state in states} == {4}


def test_resumed_detector_passes_the_chain_check(chained, data, tmp_path):
    _, _, work_dir = chained
    resume = dict(resume=True, load_from=str(work_dir / 'iter_2.pth'))
    runner = train(detector_cfg(data, tmp_path, iters=3, **resume))
    assert runner.iter == 3
    assert '100.0 % of the declared modules' in log_of(runner)


def test_pretraining_from_a_backbone(pretrained, data, tmp_path):
    state = load(pretrained[1])['state_dict']
    state = {k: v for k, v in state.items() if k.startswith('backbone.')}
    assert len(state) > 100
    torch.save(state, tmp_path / 'backbone.pth')
    cfg = pretrain_cfg(
        data,
        tmp_path,
        iters=1,
        momentum=1.0,  # the teacher stays where it starts
        hooks=[dict(type='mmfgl.CheckpointChainHook', modules=['backbone'])],
        load_from=str(tmp_path / 'backbone.pth'),
    )
    runner = train(cfg)
    assert '100.0 % of the declared modules' in log_of(runner)
    exported = load(tmp_path / 'iter_1.pth')['state_dict']
    teacher = runner.model.target_generator.state_dict()
    # BatchNorm statistics go on with the student
    for name, _ in runner.model.backbone.named_parameters(prefix='backbone'):
        assert torch.equal(teacher[name], state[name]), name
        assert torch.equal(exported[name], state[name]), name


def halved(state):
    key = 'roi_head.tokenizer.squeeze.weight'
    return {**state, key: state[key][:4]}


@pytest.mark.parametrize(
    'spoil, modules, messages',
    [
        (
            lambda state: {f'encoder_q.{k}': v for k, v in state.items()},
            SHARED,
            [
                'backbone: missing: backbone.conv1.weight',
                'roi_head.transformer: missing: roi_head.transformer.encoder',
                'The checkpoint holds: encoder_q',
            ],
        ),
        (
            halved,
            SHARED,
            [
                'roi_head.tokenizer: mismatched: '
                'roi_head.tokenizer.squeeze.weight (checkpoint (4, 16, 1, 1)'
                ', model (8, 16, 1, 1))'
            ],
        ),
        # other classes than the pretraining's
        (dict, ['roi_head.bbox_head'], ['mismatched: roi_head.bbox_head.fc_']),
        (None, SHARED, ['load_from=CHECKPOINT']),
    ],
    ids=['prefix', 'shape', 'classes', 'forgotten'],
)
def test_wrong_start(pretrained, data, tmp_path, spoil, modules, messages):
    path = None
    if spoil:
        path = str(tmp_path / 'wrong.pth')
        torch.save(spoil(load(pretrained[1])['state_dict']), path)
    with pytest.raises(RuntimeError) as error:
        train(detector_cfg(data, tmp_path, modules=modules, load_from=path))
    assert all(message in str(error.value) for message in messages)
    assert not list(tmp_path.glob('iter_*.pth'))
