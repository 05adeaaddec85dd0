from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseTTAModel
from torch import nn

from mmfgl.engine.hooks import CheckpointChainHook

TRAINING = object()  # MMEngine's Runner has built its loop
MODULES = ['backbone', 'roi_head.tokenizer']


class Toy(nn.Module):
    """Its table stretches on loading, as a ViT resizes its embedding."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.roi_head = nn.ModuleDict(
            dict(tokenizer=nn.Linear(4, 2), bbox_head=nn.Linear(2, 2))
        )
        self.table = nn.Module()
        self.table.register_parameter('rows', nn.Parameter(torch.ones(4)))
        self.table._register_load_state_dict_pre_hook(self._stretch)

    def _stretch(self, state, prefix, *args):
        rows = state.get(f'{prefix}rows')
        if rows is not None:
            state[f'{prefix}rows'] = rows.repeat(4 // len(rows))

    def test_step(self, data):
        raise NotImplementedError


class ToyTTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


def checkpoint_of(prefix='', **changes):
    state = {prefix + k: v for k, v in Toy().state_dict().items()}
    return dict(state_dict=state | changes, meta={})


def check(
    checkpoint,
    modules=MODULES,
    model=None,
    resume=False,
    loop=TRAINING,
    **options,
):
    """Let the hook check; return what it logs."""
    lines = []
    runner = SimpleNamespace(
        _train_loop=loop,
        model=model or Toy(),
        logger=SimpleNamespace(info=lines.append),
        cfg=dict(load_from='dir/iter_2.pth', resume=resume),
    )
    hook = CheckpointChainHook(modules, **options)
    if checkpoint is not None:
        hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train(runner)
    return lines[0]


def error_of(checkpoint, *args, **options):
    with pytest.raises(RuntimeError) as error:
        check(checkpoint, *args, **options)
    return str(error.value)


def test_complete_load():
    extra = {'backbone.2.weight': torch.zeros(1)}
    extra['roi_head.bbox_head.weight'] = torch.zeros(7, 2)  # other classes
    lines = check(checkpoint_of(**extra)).splitlines()
    assert lines[0].endswith('dir/iter_2.pth:')
    kinds = ['loaded', 'missing', 'mismatched', 'unexpected']
    assert lines[1].split() == kinds
    # weight and bias twice, two statistics and their counter
    assert lines[2].split() == ['backbone', '7', '0', '0', '1']
    assert lines[3].split() == ['roi_head.tokenizer', '2', '0', '0', '0']
    assert lines[4] == (
        '100.0 % of the declared modules loaded (9 of 9 tensors); of other '
        'modules 2 tensors load too, 1 have another shape and do not'
    )
    assert '100.0 %' in check(Toy().state_dict())  # without 'state_dict'
    text = check(checkpoint_of(), ['roi_head.tokenizer.bias'])
    assert '(1 of 1 tensors)' in text


def test_missing_and_mismatched_keys():
    wrong = {'roi_head.tokenizer.weight': torch.zeros(5, 4)}
    checkpoint = checkpoint_of(**wrong)
    for key in ('0.weight', '0.bias', '1.weight', '1.bias'):
        checkpoint['state_dict'].pop(f'backbone.{key}')
    text = error_of(checkpoint)
    assert 'dir/iter_2.pth does not load into the modules' in text
    assert (
        'backbone: missing: backbone.0.weight, backbone.0.bias, '
        'backbone.1.weight and 1 more\n' in text
    )
    assert (
        'roi_head.tokenizer: mismatched: roi_head.tokenizer.weight '
        '(checkpoint (5, 4), model (2, 4))' in text
    )
    assert 'The checkpoint holds: backbone, roi_head, table.' in text


@pytest.mark.parametrize('wrapper', [None, nn.DataParallel, ToyTTA])
def test_wrong_prefix_loads_nothing(wrapper):
    # MMEngine loads the checkpoint into the model inside a wrapper
    model = Toy() if wrapper is None else wrapper(Toy())
    assert '100.0 %' in check(checkpoint_of(), model=model)
    text = error_of(checkpoint_of('encoder.'), model=model)
    assert 'backbone: missing:' in text
    assert 'roi_head.tokenizer: missing:' in text
    assert 'The checkpoint holds: encoder.' in text


@pytest.mark.parametrize('name', ['neck', 'back'])  # a prefix is no name
def test_module_that_the_model_does_not_have(name):
    text = error_of(checkpoint_of(), ['backbone', name])
    assert f'{name}: the model has no such module' in text


def test_keys_are_revised_before_they_are_loaded():
    checkpoint = checkpoint_of('encoder.net.')
    check(checkpoint, revise_keys=[(r'^encoder\.', ''), (r'^net\.', '')])
    assert set(checkpoint['state_dict']) == set(Toy().state_dict())
    # but not on resuming or testing: a trained one has the right ones
    revise = [(r'^backbone\.', 'other.')]
    for given in (dict(resume=True), dict(loop={}), dict(loop=None)):
        assert '100.0 %' in check(checkpoint, revise_keys=revise, **given)
    assert set(checkpoint['state_dict']) == set(Toy().state_dict())


def test_no_checkpoint_at_all():
    text = error_of(None)
    assert 'load_from=CHECKPOINT' in text
    assert 'backbone, roi_head.tokenizer' in text


@pytest.mark.parametrize('modules', ['backbone', []], ids=repr)
def test_modules_must_be_a_list(modules):
    with pytest.raises(ValueError, match='takes a list of module names'):
        CheckpointChainHook(modules)


def test_conversions_of_the_model_on_loading():
    short = torch.tensor([1.0, 2.0])
    checkpoint = checkpoint_of(**{'table.rows': short})
    assert '100.0 %' in check(checkpoint, ['table'])
    # the checkpoint itself is left to the model
    assert checkpoint['state_dict']['table.rows'] is short
    # a width that the conversion can not repair is still an error
    checkpoint['state_dict']['table.rows'] = torch.ones(3)
    assert 'mismatched: table.rows' in error_of(checkpoint, ['table'])
