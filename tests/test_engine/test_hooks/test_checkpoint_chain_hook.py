from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseTTAModel
from torch import nn

from mmfgl.engine.hooks import CheckpointChainHook, LoadReport

MODULES = ['backbone', 'roi_head.tokenizer']


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.roi_head = nn.ModuleDict(
            dict(tokenizer=nn.Linear(4, 2), bbox_head=nn.Linear(2, 2))
        )

    def test_step(self, data):
        raise NotImplementedError


class Logger:
    def __init__(self):
        self.text = ''

    def info(self, message):
        self.text += message


def fake_runner(model=None, resume=False):
    return SimpleNamespace(
        model=model or Toy(),
        logger=Logger(),
        _load_from='dir/iter_2.pth',
        _resume=resume,
    )


def checkpoint_of(model=None, prefix=''):
    state = (model or Toy()).state_dict()
    return dict(state_dict={prefix + k: v for k, v in state.items()}, meta={})


def check(checkpoint, runner=None, modules=MODULES, **options):
    runner = runner or fake_runner()
    hook = CheckpointChainHook(modules, **options)
    hook.after_load_checkpoint(runner, checkpoint)
    hook.before_train(runner)
    return runner.logger.text


def error_of(checkpoint, **options):
    with pytest.raises(RuntimeError) as error:
        check(checkpoint, **options)
    return str(error.value)


def test_complete_load():
    text = check(checkpoint_of())
    lines = [line.split() for line in text.splitlines()]
    assert lines[0][-1] == 'dir/iter_2.pth:'
    assert lines[1] == ['loaded', 'missing', 'mismatched', 'unexpected']
    # weight and bias twice, two statistics and their counter
    assert lines[2] == ['backbone', '7', '0', '0', '0']
    assert lines[3] == ['roi_head.tokenizer', '2', '0', '0', '0']
    assert text.splitlines()[4] == (
        '100.0 % of the declared modules loaded (9 of 9 tensors); 2 tensors '
        'of other modules match too'
    )


def test_plain_state_dict():
    assert '100.0 %' in check(Toy().state_dict())


def test_unexpected_keys_are_counted():
    checkpoint = checkpoint_of()
    checkpoint['state_dict']['backbone.2.weight'] = torch.zeros(1)
    text = check(checkpoint)
    assert text.splitlines()[2].split() == ['backbone', '7', '0', '0', '1']


def test_missing_keys():
    checkpoint = checkpoint_of()
    for key in ('0.weight', '0.bias', '1.weight', '1.bias'):
        checkpoint['state_dict'].pop(f'backbone.{key}')
    text = error_of(checkpoint)
    assert 'dir/iter_2.pth does not load into the modules' in text
    assert (
        'backbone: missing: backbone.0.weight, backbone.0.bias, '
        'backbone.1.weight and 1 more\n' in text
    )
    assert 'roi_head.tokenizer:' not in text
    assert 'The checkpoint holds: backbone, roi_head.' in text


def test_mismatched_shapes():
    checkpoint = checkpoint_of()
    checkpoint['state_dict']['roi_head.tokenizer.weight'] = torch.zeros(5, 4)
    text = error_of(checkpoint)
    assert (
        'roi_head.tokenizer: mismatched: roi_head.tokenizer.weight '
        '(checkpoint (5, 4), model (2, 4))' in text
    )


def test_wrong_prefix_loads_nothing():
    text = error_of(checkpoint_of(prefix='encoder.'))
    assert 'backbone: missing:' in text
    assert 'roi_head.tokenizer: missing:' in text
    assert 'The checkpoint holds: encoder.' in text


def test_module_that_the_model_does_not_have():
    text = error_of(checkpoint_of(), modules=['backbone', 'neck'])
    assert 'neck: the model has no such module' in text
    # a prefix is no name
    text = error_of(checkpoint_of(), modules=['back'])
    assert 'back: the model has no such module' in text


def test_one_tensor_can_be_declared():
    text = check(checkpoint_of(), modules=['roi_head.tokenizer.bias'])
    assert '(1 of 1 tensors)' in text


def test_keys_are_revised_before_they_are_loaded():
    checkpoint = checkpoint_of(prefix='encoder.net.')
    expected = checkpoint_of()['state_dict'].keys()
    check(checkpoint, revise_keys=[(r'^encoder\.', ''), (r'^net\.', '')])
    assert set(checkpoint['state_dict']) == set(expected)


def test_keys_are_not_revised_on_resuming():
    # the run's own checkpoint already has the right ones
    checkpoint = checkpoint_of()
    text = check(
        checkpoint,
        runner=fake_runner(resume=True),
        revise_keys=[(r'^backbone\.', 'other.')],
    )
    assert '100.0 %' in text
    assert set(checkpoint['state_dict']) == set(Toy().state_dict())


class ToyTTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


@pytest.mark.parametrize('wrapper', [nn.DataParallel, ToyTTA])
def test_wrapped_models(wrapper):
    # MMEngine loads the checkpoint into the model inside
    assert '100.0 %' in check(checkpoint_of(), fake_runner(wrapper(Toy())))
    text = error_of(
        checkpoint_of(prefix='x.'), runner=fake_runner(wrapper(Toy()))
    )
    assert 'backbone: missing' in text


def test_no_checkpoint_at_all():
    with pytest.raises(RuntimeError, match='load_from=CHECKPOINT') as error:
        CheckpointChainHook(MODULES).before_train(fake_runner())
    assert 'backbone, roi_head.tokenizer' in str(error.value)


@pytest.mark.parametrize('modules', ['backbone', [], ()], ids=repr)
def test_modules_must_be_a_list(modules):
    with pytest.raises(ValueError, match='takes a list of module names'):
        CheckpointChainHook(modules)


def test_report_of_nothing():
    model = Toy().state_dict()
    report = LoadReport(model, {}, MODULES)
    assert '0.0 % of the declared modules loaded (0 of 9' in str(report)


class Stretchy(Toy):
    """Repeats a shorter parameter on loading, as a ViT resizes one."""

    def __init__(self):
        super().__init__()
        self.roi_head.register_parameter('places', nn.Parameter(torch.ones(4)))
        self.roi_head._register_load_state_dict_pre_hook(self._stretch)

    def _stretch(self, state, prefix, *args):
        places = state[f'{prefix}places']
        state[f'{prefix}places'] = places.repeat(4 // len(places))


def test_conversions_of_the_model_on_loading():
    checkpoint = checkpoint_of(Stretchy())
    short = torch.tensor([1.0, 2.0])
    checkpoint['state_dict']['roi_head.places'] = short
    text = check(checkpoint, fake_runner(Stretchy()), modules=['roi_head'])
    assert '100.0 %' in text
    # the checkpoint itself is left to the model
    assert checkpoint['state_dict']['roi_head.places'] is short
    model = Stretchy()
    model.load_state_dict(checkpoint['state_dict'])
    assert model.roi_head.places.tolist() == [1, 2, 1, 2]
    # a width that the conversion can not repair is still an error
    checkpoint['state_dict']['roi_head.places'] = torch.ones(3)
    message = error_of(
        checkpoint, runner=fake_runner(Stretchy()), modules=['roi_head']
    )
    assert 'mismatched: roi_head.places' in message
