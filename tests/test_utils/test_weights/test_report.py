"""Advice on keys is followed to the letter, and must then hold."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.models.backbones import ResNet, SwinTransformer
from mmengine.config import Config
from torch import nn

from mmfgl.engine.hooks import CheckpointChainHook, StrictLoadHook
from mmfgl.registry import MODELS
from mmfgl.utils.weights import (
    StrictCheckpointHook,
    check_opened_weights,
    check_weights,
    safe_load,
    use_safe_loading,
)


def resnet(**options):
    return ResNet(18, **dict(frozen_stages=-1, base_channels=8) | options)


@pytest.fixture
def state():
    return resnet().state_dict()


class Detector(nn.Module):
    """A backbone, and a head of two classes."""

    def __init__(self, backbone=None, classes=2):
        super().__init__()
        self.backbone = backbone or resnet()
        self.head = nn.Linear(4, classes)

    def init_weights(self):
        self.backbone.init_weights()


def runner_of(model, path='model.pth', hooks=(), resume=False):
    return SimpleNamespace(
        _train_loop=object(),  # it trains
        model=model,
        hooks=list(hooks),
        logger=SimpleNamespace(info=print, warning=print),
        cfg=dict(load_from=str(path), resume=resume),
    )


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def lightly(state):
    names = ['conv1', 'bn1', 'relu', 'maxpool']
    names += [f'layer{stage}' for stage in (1, 2, 3, 4)]
    return {
        f'{names.index(k.split(".")[0])}.{k.split(".", 1)[1]}': v
        for k, v in state.items()
    }


def detectron2(state):
    def name(key):
        key = re.sub(r'^conv1', 'stem.conv1', key)
        key = re.sub(r'^bn1', 'stem.conv1.norm', key)
        key = re.sub(
            r'^layer(\d)', lambda found: f'res{int(found[1]) + 1}', key
        )
        key = key.replace('downsample.0', 'shortcut')
        key = key.replace('downsample.1', 'shortcut.norm')
        return re.sub(r'bn(\d)', r'conv\1.norm', key)

    return {name(k): v for k, v in state.items() if 'num_batches' not in k}


PREFIXES = (
    *('module.', 'student.', 'teacher.', 'model.', 'backbone.', 'encoder.'),
    *('module.encoder_q.', 'encoder_q.', 'online_network.encoder.'),
    *('_orig_mod.backbone.', 'backbone.body.', 'student.backbone.'),
)
RENAMED = {
    'lightly': lightly,
    'lightly backbone': lambda state: prefixed(lightly(state), 'backbone.'),
    'detectron2': detectron2,
    'bottom_up': lambda s: prefixed(detectron2(s), 'backbone.bottom_up.'),
}
FILES = {p: lambda s, p=p: prefixed(s, p) for p in PREFIXES} | RENAMED


@pytest.fixture
def save(tmp_path, state):
    """Write the weights of a backbone, its keys changed; give the path."""
    use_safe_loading()

    def write(change, wrap='state_dict'):
        path = tmp_path / 'model.pth'
        content = change(state) | {'fc.weight': torch.zeros(3, 3)}
        torch.save({wrap: content} if wrap else content, path)
        return str(path)

    return write


def init_error(path, backbone=None, **options):
    init_cfg = dict(type='Pretrained', checkpoint=path) | options
    if backbone is None:
        backbone = resnet(init_cfg=init_cfg)
    model = Detector(backbone)
    try:
        StrictLoadHook().before_run(runner_of(model))
    except RuntimeError as error:
        return str(error)
    model.init_weights()
    return model


def assert_loaded(model, state):
    for key, value in model.backbone.state_dict().items():
        if 'num_batches_tracked' not in key:
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize('prefix', PREFIXES)
def test_init_cfg_says_its_prefix(save, state, prefix):
    path = save(FILES[prefix], ['state_dict', ''][len(prefix) % 2])
    loaded = init_error(path)
    if prefix != 'module.':  # which MMEngine strips
        assert path in loaded and 'the backbone' in loaded
        assert 'conv1.weight, bn1.weight, bn1.bias and' in loaded
        assert f"write prefix='{prefix}'" in loaded
        loaded = init_error(path, prefix=prefix[:-1])
    assert_loaded(loaded, state)
    text = init_error(path, prefix='nothing.')
    assert "with prefix='nothing.' does not fill" in text
    assert f"prefix='{prefix}'" in text


def test_init_cfg_without_need_of_a_prefix(save):
    path = save(lambda state: state)
    assert 'leave `prefix` out' in init_error(path, prefix='backbone.')


def test_student_and_teacher(save):
    path = save(lambda s: prefixed(s, 'student.') | prefixed(s, 'teacher.'))
    text = init_error(path)
    assert "prefix='student.' or prefix='teacher.'" in text


@pytest.mark.parametrize(
    'name', ['module.', 'module.encoder_q.', 'backbone.', *RENAMED]
)
@pytest.mark.parametrize('declared', [True, False])
def test_load_from_says_what_to_revise(save, state, name, declared):
    path = save(FILES[name])
    model = Detector()
    hooks = [CheckpointChainHook(['backbone'])] * declared
    if name == 'backbone.' and declared:
        return
    with pytest.raises(RuntimeError) as error:
        load(model, path, hooks)
    text = str(error.value)
    assert 'backbone: missing: backbone.conv1.weight' in text or (
        name == 'backbone.' and 'head: missing: head.weight' in text
    )
    (hook,) = re.findall(
        r"dict\(type='mmfgl.CheckpointChainHook', (modules=\['backbone'\].*)\)"
        r'(?: among| to)',
        text,
    )
    hook = eval(f'dict({hook})')
    assert_loaded(load(model, path, [CheckpointChainHook(**hook)]), state)


def load(model, path, hooks):
    """As Runner does it."""
    checkpoint = safe_load(path)
    runner = runner_of(model, path, [*hooks, StrictLoadHook()])
    for hook in runner.hooks:
        hook.after_load_checkpoint(runner, checkpoint)
    state = checkpoint.get('state_dict', checkpoint)
    model.load_state_dict(state, strict=False)
    return model


@pytest.mark.parametrize('name', RENAMED)
def test_an_init_cfg_can_not_rename(save, name):
    path = save(FILES[name])
    text = init_error(path)
    assert 'ResNet' in text
    assert f"init_cfg=None, load_from='{path}'" in text
    assert 'revise_keys=[(' in text


@pytest.mark.parametrize('inside', ['teacher', 'model'])
def test_weights_in_another_place(save, inside, tmp_path):
    path = save(lambda state: prefixed(state, 'backbone.'), wrap=inside)
    text = init_error(path)
    code = re.search('python -c "(.*)"', text)[1]
    exec(code.replace('NEW.pth', str(tmp_path / 'NEW.pth')))
    (written,) = re.findall("write prefix='(.*?)'", text)
    new = str(tmp_path / 'NEW.pth')
    assert isinstance(init_error(new, prefix=written), Detector)


def test_timm(save, tmp_path):
    """A backbone of timm's, whose keys have a prefix of their own."""
    kind = dict(
        type='mmpretrain.TIMMBackbone',
        model_name='resnet18',
        features_only=True,
    )
    names = {k.removeprefix('timm_model.'): v for k, v in built(kind).items()}
    path = save(lambda _: names)
    init_cfg = dict(type='Pretrained', checkpoint=path)
    text = init_error(path, MODELS.build(dict(kind, init_cfg=init_cfg)))
    assert "(r'^', 'backbone.timm_model.')" in text
    path = save(lambda _: prefixed(names, 'backbone.timm_model.'))
    init_cfg['prefix'] = 'backbone.'
    backbone = MODELS.build(dict(kind, init_cfg=init_cfg))
    assert isinstance(init_error(path, backbone), Detector)


def built(kind):
    return MODELS.build(kind).state_dict()


def test_backbone_with_its_own_way_of_loading(save):
    """mmdet's Swin strips `backbone.`, whatever the config says."""

    def swin(path=None):
        init_cfg = (
            path and Config(dict(a=dict(type='Pretrained', checkpoint=path))).a
        )
        return SwinTransformer(
            embed_dims=8,
            depths=(1, 1, 1, 1),
            num_heads=(1, 1, 1, 1),
            init_cfg=init_cfg,
        )

    state = {k: v for k, v in swin().state_dict().items() if 'norm3' not in k}
    path = save(lambda _: prefixed(state, 'backbone.'))
    assert isinstance(init_error(path, swin(path)), Detector)
    for wrong in ('', 'encoder.', 'backbone.x.'):
        path = save(lambda _, wrong=wrong: prefixed(state, wrong))
        text = init_error(path, swin(path))
        assert path in text and 'does not fill the backbone' in text


def test_another_network(save):
    text = init_error(save(lambda _: {'a.b': torch.ones(1)}))
    assert 'keys look like a.b, fc.weight' in text
    assert 'bn1.bias' in text
    wide = resnet(base_channels=16).state_dict()
    text = init_error(save(lambda _: wide))
    assert 'of another shape: conv1.weight (checkpoint (16, 3, 7, 7), ' in text
    text = init_error(save(lambda _: prefixed(wide, 'a.')))
    assert "prefix='a.'" in text and 'network of another size' in text


def test_one_tensor_is_missing(save):
    def change(state):
        return {k: v for k, v in state.items() if k != 'layer4.1.bn2.weight'}

    text = init_error(save(change))
    assert '1 tensors are missing: layer4.1.bn2.weight' in text


def test_what_may_be_missing(save, state):
    """Counters; classifiers of another number of classes."""
    path = save(
        lambda s: {k: v for k, v in s.items() if 'num_batches' not in k}
    )
    assert_loaded(init_error(path), state)
    full = prefixed(state, 'backbone.') | {
        'head.weight': torch.zeros(5, 4),
        'head.bias': torch.zeros(5),
    }
    path = save(lambda _: full)
    checkpoint = safe_load(path)
    model = Detector()
    runner = runner_of(model, path, [StrictLoadHook()])
    runner.hooks[0].after_load_checkpoint(runner, checkpoint)
    origins = runner.hooks[0].origins(model)
    assert origins == [f'{path}: backbone', 'no file: head']
    # but not features of another width
    checkpoint['state_dict']['head.weight'] = torch.zeros(5, 3)
    with pytest.raises(RuntimeError, match='head: mismatched: head.weight'):
        runner.hooks[0].after_load_checkpoint(runner, checkpoint)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_weights_that_are_not_finite(save, value):
    def change(state):
        state = dict(state)
        state['conv1.weight'] = state['conv1.weight'] * value
        return state

    with pytest.raises(ValueError, match='NaN or infinite.*conv1.weight'):
        init_error(save(change))
    path = save(lambda s: prefixed(change(s), 'backbone.'))
    for hook in (StrictLoadHook(), StrictCheckpointHook()):
        runner = runner_of(Detector(), path, [hook])
        with pytest.raises(ValueError, match='NaN or infinite.*conv1.weight'):
            hook.after_load_checkpoint(runner, safe_load(path))


def test_checkpoint_of_a_test_with_a_prefix():
    state = prefixed(Detector().state_dict(), 'student.')
    runner = runner_of(Detector())
    with pytest.raises(RuntimeError, match="the prefix 'student.'"):
        StrictCheckpointHook().after_load_checkpoint(
            runner, dict(state_dict=state)
        )


def test_files_that_timm_would_open(tmp_path):
    use_safe_loading()
    path = tmp_path / 'bad.pth'
    torch.save(nn.Linear(2, 2), path)
    model = dict(type='mmpretrain.TIMMBackbone', checkpoint_path=str(path))
    cfg = Config(dict(model=dict(backbone=model)))
    with pytest.raises(ValueError, match='--trust-checkpoint'):
        check_weights(cfg)
    with pytest.raises(ValueError, match='--trust-checkpoint'):
        check_opened_weights(cfg.model)
