"""What transfer.py would run: the steps of its plan."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from lib import transfer_plan, transfer_results
from lib.transfer_finetune import SHARED, modules_to_load
from lib.transfer_plan import Plan
from lib.transfer_runs import Runs
from mmengine.config import Config

from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import parts_of
from tests.test_tools.transfer_arguments import arguments
from tools.benchmarks import lightly, transfer
from tools.dataset_converters import propose_regions


@pytest.fixture(scope='module')
def data(tmp_path_factory, unformatted_configs):
    root = tmp_path_factory.mktemp('transfer')
    return tiny_coco(root / 'data', num_images=6, num_val=2)


def test_plan_of_both_detectors(data, tmp_path, capsys):
    out = tmp_path / 'out'
    text = arguments(data, out, 'none,byol,objectness', '--detector=both')
    plan = Plan(transfer.parse_args(text), data, out)
    rows = {row.name: (row.detector, row.pretraining) for row in plan.rows}
    assert rows == {
        'none': ('faster-rcnn', ''),
        'byol': ('faster-rcnn', 'byol'),
        'objectness': ('faster-rcnn', 'objectness'),
        'none-fgl': ('fgl', ''),
        'objectness-fgl': ('fgl', 'objectness-fgl'),
    }
    # pretrainings, region searches, fine-tunings
    assert plan.num_steps == 3 + 2 + 3 * 5
    transfer.main([*text, '--dry-run'])
    assert not out.exists()
    text = capsys.readouterr().out
    assert 'fine-tune objectness-fgl: fgl, 3 x 2 iterations' in text
    assert 'Expect about' in text


def test_modules_that_a_checkpoint_holds(tmp_path):
    """A pretrained Faster R-CNN may start FGL: what both have is asked for."""
    path = tmp_path / 'plain.pth'
    names = ['backbone', 'neck.lateral_convs', 'rpn_head']
    names += [f'roi_head.bbox_head.{x}' for x in ('shared_fcs', 'fc_reg')]
    torch.save({f'{name}.0.weight': torch.ones(1) for name in names}, path)
    plain = ['backbone', 'neck', 'rpn_head']
    assert modules_to_load(path, 'fgl') == plain
    assert modules_to_load(path, 'faster-rcnn') == [*plain, names[3]]
    names = [f'{name}.weight' for name in ('backbone', *SHARED['fgl'])]
    names += ['neck.lateral_convs.weight', 'neck.projector.weight']
    torch.save(dict.fromkeys(names, torch.ones(1)), path)
    assert modules_to_load(path, 'fgl') == ['backbone', *SHARED['fgl']]
    # the neck of another method, no feature pyramid
    keys = ['backbone.weight', 'neck.projector.weight']
    torch.save(dict.fromkeys(keys, torch.ones(1)), path)
    assert modules_to_load(path, 'faster-rcnn') == ['backbone']


def test_weights_are_converted_where_they_are_missing(
    data, tmp_path, monkeypatch
):
    text = arguments(data, tmp_path, 'distill', '--init=imagenet')
    args = transfer.parse_args(text)
    names = [f'efficientnet-lite{i}_imagenet.pth' for i in (0, 2)]
    monkeypatch.setattr(transfer_plan, 'ROOT', tmp_path / 'clone')
    plan = Plan(args, data, tmp_path / 'out')
    paths = [tmp_path / 'out/weights' / name for name in names]
    assert plan.conversions == dict(zip(paths, '02', strict=True))
    assert plan.weights == paths[0] and plan.num_steps == 2 + 1 + 3
    steps = iter(Runs(plan))
    commands = [next(steps).command[1:] for _ in paths]
    assert commands == [
        [f'--variant={i}', f'--out={path}']
        for i, path in zip('02', paths, strict=True)
    ]
    # those of the clone come first
    for name in names:
        path = tmp_path / 'clone/checkpoints' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    plan = Plan(args, data, tmp_path / 'out')
    assert not plan.conversions and plan.weights.parent == path.parent
    step = next(iter(Runs(plan)))
    cfg = Config.fromfile(step.config)
    assert cfg.model.teacher.init_cfg.checkpoint == str(path)
    with pytest.raises(FileNotFoundError, match='there are no weights.*vit'):
        plan.locate('checkpoints/vit.pth')


def test_arm_of_an_outside_program(data, tmp_path):
    more = ('--init=imagenet', '--lightly-python=there/python', '--seeds=1')
    more += ('--pretrain-seed=4',)
    text = arguments(data, tmp_path, 'none,lightly', '--detector=both', *more)
    plan = Plan(transfer.parse_args(text), data, tmp_path / 'out')
    assert [row.name for row in plan.rows] == ['none', 'lightly', 'none-fgl']
    plan.conversions = {}
    step = next(iter(Runs(plan)))
    assert step.name == 'pretrain_lightly'
    command = step.command
    assert command[0].endswith('tools/benchmarks/lightly.py')
    args = lightly.parse_args(command[1:])
    assert args.iters == 2 and args.view_size == 64 and args.seed == 4
    assert lightly.options(args, tmp_path, 1)['seed'] == 4
    assert args.python == str(Path('there/python').absolute())
    with pytest.raises(RuntimeError, match='there/python.*pip install light'):
        lightly.check_environment(args.python)
    with pytest.raises(RuntimeError, match='has no LightlyTrain: python -m'):
        lightly.check_environment(sys.executable)
    for missing, message in (
        (0, 'needs --init imagenet'),
        (1, 'outside program.*--lightly-python'),
    ):
        few = [*more[:missing], *more[missing + 1 :]]
        text = arguments(data, tmp_path, 'lightly', *few)
        with pytest.raises(ValueError, match=message):
            Plan(transfer.parse_args(text), data, tmp_path / 'out')


def test_rounds_of_a_pretraining(data, tmp_path):
    """The second learns from the first, all share the budget."""
    out = tmp_path / 'out'
    more = ('--seeds=1', '--pretrain-seed=4')
    text = arguments(data, out, 'objectness-rounds', *more)
    args = transfer.parse_args(text)
    args.pretrain_minutes, args.pretrain_iters = 1, None
    plan = Plan(args, data, out)
    steps = {}
    for step in Runs(plan):
        steps[step.name] = step
        state = dict(seconds=6.0, done=True, digest=step.digest())
        path = out / f'steps/{step.name}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(state))
        if step.work_dir:
            step.work_dir.mkdir(parents=True)
            checkpoint = str(step.work_dir / 'iter.pth')
            (step.work_dir / 'last_checkpoint').write_text(checkpoint)
            torch.save(dict(state_dict={}), checkpoint)
            spent = dict(seconds=20.0, iters=5, images=40)
            (step.work_dir / 'budget.json').write_text(json.dumps(spent))
    name = 'objectness-rounds'
    first, second = f'{name}-round1', name
    assert [key for key in steps if 'finetune' not in key] == [
        f'proposals_{first}',
        f'pretrain_{first}',
        f'proposals_{second}',
        f'quality_{second}',
        f'pretrain_{second}',
    ]
    assert len(steps) == plan.num_steps
    options = steps[f'proposals_{first}'].command
    assert 'mode=single' in options and '--detector' not in options
    config = steps[f'pretrain_{first}'].config
    options = steps[f'proposals_{second}'].resolved_command()
    options = propose_regions.parse_args(options[1:])
    assert options.out == str(plan.regions(second)) and options.clusters == 64
    found = Path(options.detector[1]).resolve()
    assert options.detector[0] == config
    assert found == out / f'pretrain/{first}/iter.pth'
    assert options.cfg_options['join'] == str(plan.regions(first))
    cfgs = [
        Config.fromfile(steps[f'pretrain_{part}'].config)
        for part in (first, second)
    ]
    seconds = [
        hook['seconds']
        for cfg in cfgs
        for hook in cfg.custom_hooks
        if 'BudgetHook' in hook['type']
    ]
    # (60 - 6) / 2, and what two searches and a training leave
    assert seconds == [27.0, 28.0]
    assert [cfg.randomness.seed for cfg in cfgs] == [4, 4]
    cfg = Config.fromfile(steps[f'finetune_{name}_seed0'].config)
    assert cfg.randomness.seed == 0
    assert cfgs[0].get('load_from') is None
    assert cfgs[1].load_from == str(found)
    for cfg, part in zip(cfgs, (first, second), strict=True):
        files = {
            step.get('object_proposer', {}).get('ann_file')
            for step in parts_of(cfg.train_dataloader.dataset.pipeline)
        }
        assert str(plan.regions(part)) in files
    state = {'roi_head.bbox_head.fc_cls.weight': 0, 'neck.x': 1}
    (hook,) = (h for h in cfgs[1].custom_hooks if 'Chain' in h['type'])
    for pattern, new in hook['revise_keys']:
        state = {re.sub(pattern, new, key): v for key, v in state.items()}
    assert 'neck.x' in state
    assert 'roi_head.bbox_head.fc_cls.weight' not in state
    (out / f'steps/finetune_{name}_seed0.json').unlink()
    arm = transfer_results._read_arm(out, name, name)
    assert arm['pretrain_seconds'] == 2 * 20 + 2 * 6
    assert arm['pretrain_iters'] == 10 and arm['images_seen'] == 80
