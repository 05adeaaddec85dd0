"""ReToD as a whole: wrapped detectors, teacher, precision, training."""

import copy
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope

from mmfgl.registry import MODELS
from mmfgl.testing import (
    randomise_weights,
    region_batch,
    tiny_fgl_cfg,
    tiny_plain_detector_cfg,
    tiny_retod_cfg,
)

ALL = ('objectness', 'distill', 'mask', 'diversity')
GOLDEN = dict(
    loss_distill=4.754332,
    kl_distill=1.224906,
    teacher_entropy=0.703601,
    teacher_diversity=0.997148,
    loss_mask=3.820665,
    kl_mask=0.807094,
    loss_diversity=0.066172,
)


def randomised(retod, *tasks, **options):
    """A model whose attention reads and whose teacher differs from it."""
    model = retod.build(*tasks, **options)
    randomise_weights(model.roi_head)
    randomise_weights(model.head.projector, seed=1)
    model.target_generator.start(model)
    randomise_weights(model.target_generator.roi_head, seed=2)
    return model


@pytest.mark.parametrize('targets', ['sinkhorn', 'centring'])
def test_every_task(retod, targets):
    model = retod.build(*ALL, targets=targets)
    losses = retod.losses_of(model)
    assert retod.names_of(losses) == set(ALL)
    total, log = model.parse_losses(losses)
    assert total.isfinite()
    expected = sum(losses[f'loss_{name}'].item() for name in ALL)
    assert log['loss'].item() == pytest.approx(expected)
    retod.check_gradients(model, losses)
    assert model.tasks['mask'].mask_token.grad.any()


@pytest.mark.parametrize(
    'tasks', [('objectness',), ('objectness', 'distill'), ('diversity',)]
)
def test_plain_detector(retod, tasks):
    detector = tiny_plain_detector_cfg(num_classes=4)
    model = retod.build(*tasks, detector=detector)
    losses = retod.losses_of(model, num_labels=4)
    assert retod.names_of(losses) == set(tasks)
    retod.check_gradients(model, losses)
    head = model.roi_head.bbox_head
    assert head.shared_fcs[0].weight.grad.any()
    assert head.fc_cls.weight.grad.any() == ('objectness' in tasks)


def test_golden_losses(retod):
    model = randomised(retod, 'distill', 'mask', 'diversity')
    values = {k: v.item() for k, v in retod.losses_of(model).items()}
    assert values == pytest.approx(GOLDEN, rel=0.01)


@pytest.mark.parametrize('plain', [False, True])
def test_names_are_those_of_the_detector(retod, plain):
    make = tiny_plain_detector_cfg if plain else tiny_fgl_cfg
    state = retod.build(*ALL[:2], detector=make(num_classes=1)).state_dict()
    with DefaultScope.overwrite_default_scope('mmdet'):
        detector = MODELS.build(make(num_classes=5))
    other = [
        key
        for key, value in detector.state_dict().items()
        if key not in state or state[key].shape != value.shape
    ]
    assert other == [
        'roi_head.bbox_head.fc_cls.weight',
        'roi_head.bbox_head.fc_cls.bias',
    ]


@pytest.mark.parametrize(
    'name',
    [
        '_base_/models/mask-rcnn_r50_fpn',
        '_base_/models/cascade-mask-rcnn_r50_fpn',
        # the losses of its RPN are called as those of the RoI head
        'faster_rcnn/faster-rcnn_r50_fpn_fcos-rpn_1x_coco',
    ],
)
def test_detectors_of_mmdet(retod, name):
    """They are wrapped as they are; pseudo ground truth has no masks."""
    folder = Path(mmdet.__file__).with_name('.mim') / 'configs'
    detector = Config.fromfile(folder / f'{name}.py').model
    detector.backbone.update(base_channels=8, frozen_stages=-1)
    detector.backbone.init_cfg = None
    detector.neck.in_channels = [32, 64, 128, 256]
    heads = detector.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.fc_out_channels = 32
    before = copy.deepcopy(detector)
    model = retod.build('objectness', detector=detector)
    assert detector == before
    assert not any('mask' in key for key in model.state_dict())
    retod.check_gradients(model, retod.losses_of(model, num_regions=0))


def test_images_are_normalised_as_the_detectors(retod):
    detector = tiny_fgl_cfg(num_classes=1)
    detector.data_preprocessor.update(
        mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], bgr_to_rgb=True
    )
    model = retod.build('objectness', detector=detector)
    batch = region_batch(num_objects=1)
    images = batch['inputs'][0].float()[:, [2, 1, 0]]
    expected = (images - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / (
        torch.tensor([4.0, 5, 6]).view(3, 1, 1)
    )
    views = model.data_preprocessor(batch, True)['inputs']
    torch.testing.assert_close(views[0], expected)


def test_teacher_must_be_driven(retod):
    model = retod.build()
    model.teacher_is_driven = False
    with pytest.raises(RuntimeError, match=r"type='mmfgl\.TeacherHook'"):
        retod.losses_of(model)
    model.eval()
    assert retod.losses_of(model)


def test_objectness_alone_has_no_teacher(retod):
    model = retod.build('objectness')
    model.teacher_is_driven = False
    assert model.target_generator is None
    assert retod.names_of(retod.losses_of(model)) == {'objectness'}


def test_teacher_follows_the_student(retod):
    model = retod.build(*ALL)
    retod.losses_of(model)
    for name in (
        'backbone.conv1.weight',
        'rpn_head.rpn_cls.bias',
        'roi_head.bbox_head.fc_reg.bias',
    ):
        param = model.get_parameter(name)
        before = param.detach().clone()
        with torch.no_grad():
            param += 1
        model.update_teacher(0.75)
        averaged = model.target_generator.get_parameter(name)
        torch.testing.assert_close(averaged, before + 0.25)


def test_teacher_pass_leaves_no_graph_and_no_statistics(retod):
    model = randomised(retod)
    before = copy.deepcopy(model.target_generator.state_dict())
    retod.losses_of(model)
    after = model.target_generator.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert model.training and not model.target_generator.backbone.training


def test_features_and_tensor_mode(retod):
    model = retod.build('objectness').eval()
    batch = retod.batch_of(model)
    expected = model.neck(model.backbone(batch['inputs'][0]))
    for feats in (
        model.extract_feat(batch['inputs']),
        model(batch['inputs'], mode='tensor'),
    ):
        assert all(torch.equal(a, b) for a, b in zip(feats, expected))


def test_training_lowers_the_losses(retod):
    model = retod.build(*ALL[:3])
    params = [p for p in model.parameters() if p.requires_grad]
    wrapper = OptimWrapper(torch.optim.Adam(params, lr=3e-3))
    torch.manual_seed(0)
    logs = []
    for _ in range(40):
        logs.append(model.train_step(region_batch(num_objects=3), wrapper))
        model.update_teacher(0.9)
    for key in ('loss_objectness', 'loss_distill', 'loss_mask'):
        first, last = (
            sum(log[key].item() for log in part)
            for part in (logs[:4], logs[-4:])
        )
        assert last < 0.8 * first, key


@pytest.mark.parametrize(
    ('tasks', 'changes', 'message'),
    [
        ((), dict(tasks=[]), 'has no task'),
        (('objectness', 'objectness'), {}, 'listed twice'),
        (('distill',), dict(head=None), 'give ReToD head='),
        (('diversity',), dict(head=None), 'give ReToD head='),
        (('distill',), dict(target_generator=None), 'target_generator=dict'),
        (
            ('mask',),
            dict(detector=tiny_plain_detector_cfg()),
            'encoder of the region Transformer',
        ),
        (
            ('mask',),
            dict(
                tasks=[dict(type='mmfgl.MaskedRegionTask', embed_dims=8)],
            ),
            'embed_dims=8, but the tokens of the detector are 16 wide',
        ),
    ],
)
def test_configs_that_do_not_fit(retod, tasks, changes, message):
    with pytest.raises(ValueError, match=message):
        retod.build(*tasks, **changes)


def test_detectors_that_do_not_fit(retod):
    detector = tiny_plain_detector_cfg()
    detector.roi_head.bbox_head = dict(
        type='mmdet.BBoxHead', in_channels=16, roi_feat_size=3
    )
    with pytest.raises(ValueError, match='Shared2FCBBoxHead'):
        retod.build('distill', detector=detector)
    detector = tiny_fgl_cfg(
        rpn_head=None, region_proposer=dict(type='mmfgl.GridRegions')
    )
    with pytest.raises(ValueError, match='RPN and a box head'):
        retod.build('objectness', detector=detector)


@pytest.mark.parametrize(
    'name, message',
    [
        (
            'ms_rcnn/ms-rcnn_r50-caffe_fpn_1x',
            'MaskScoringRCNN with a mask_iou_head',
        ),
        ('point_rend/point-rend_r50-caffe_fpn_ms-1x', 'with a point_head'),
        ('htc/htc_r50_fpn_1x', 'HybridTaskCascade with a semantic_head'),
        ('tridentnet/tridentnet_r50-caffe_1x', 'its loss is more than those'),
    ],
)
def test_detectors_that_learn_from_more_are_refused(retod, name, message):
    folder = Path(mmdet.__file__).with_name('.mim') / 'configs'
    detector = Config.fromfile(folder / f'{name}_coco.py').model
    detector.backbone.init_cfg = None
    with pytest.raises(ValueError, match=f'cannot wrap a .*{message}'):
        retod.build('objectness', detector=detector)


def test_weights_of_a_whole_detector_are_load_from(retod):
    start = dict(type='Pretrained', checkpoint='coco_detector.pth')
    with pytest.raises(ValueError, match='give the file as load_from'):
        retod.build('objectness', detector=tiny_fgl_cfg(init_cfg=start))


def test_config_is_left_alone(retod):
    cfg = tiny_retod_cfg(*ALL)
    before = copy.deepcopy(cfg)
    retod.build(cfg=cfg)
    assert cfg == before
