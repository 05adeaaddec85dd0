"""Tools of MMDetection and MMPretrain, on our configs as they are."""

import inspect
import re
import runpy
import time

import matplotlib.pyplot as plt
import mmpretrain.visualization
import numpy as np
import pytest
from matplotlib import _tight_bbox
from mmengine.config import Config
from tiny_runs import ROOT, parents_tool, write, write_pretraining

import mmfgl.engine.hooks
from mmfgl.engine.hooks import BudgetHook
from mmfgl.registry import HOOKS
from mmfgl.testing import tiny_coco
from mmfgl.testing.configs import read_config

OURS = ROOT / 'tools/analysis_tools/get_flops.py'
# those that need arguments, or have a place of their own in a run
ARGUMENTS = dict(
    CheckpointChainHook=dict(modules=['backbone']),
    FreezeHook=dict(frozen=['backbone']),
    RegionProbeHook=dict(dataloader=dict()),
)
OWN_PLACE = {'AtomicCheckpointHook', 'StrictLoadHook', 'BudgetHook'}

pytestmark = pytest.mark.usefixtures('unformatted_configs')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return tiny_coco(root, num_images=1, num_val=1, num_unlabelled=1)


@pytest.fixture
def pretraining(tmp_path, data):
    return write_pretraining(tmp_path, data)


def flops(printed):
    """What a parent's get_flops.py has printed, as a number."""
    number, unit = re.search(r'Flops: ([\d.]+)([KMG])', printed).groups()
    return float(number) * dict(K=1e3, M=1e6, G=1e9)[unit]


def test_flops_are_those_of_mmdetection(tmp_path, data, capsys):
    """Its tool traces the detector, and counts what ours counts."""
    config, _ = write(tmp_path, data, 'fgl')
    parents_tool(
        'mmdet', 'analysis_tools/get_flops.py', config, '--num-images', 1
    )
    theirs = flops(capsys.readouterr().out)
    tool = runpy.run_path(str(OURS))
    ours = tool['measure'](tool['build'](config), (96, 128))
    assert ours['flops'] == pytest.approx(theirs, rel=1e-3)


def test_flops_of_a_pretraining_are_those_of_mmpretrain(pretraining, capsys):
    options = ['--shape', 64, 96]
    parents_tool(
        'mmpretrain', 'analysis_tools/get_flops.py', pretraining, *options
    )
    theirs = flops(capsys.readouterr().out.replace('\u200b', ''))
    tool = runpy.run_path(str(OURS))
    ours = tool['measure'](tool['build'](pretraining), (64, 96))
    assert ours['flops'] == pytest.approx(theirs, rel=1e-2)


def test_browse_detection_data_by_mmdetection(tmp_path, data):
    config, _ = write(tmp_path, data, 'fgl')
    cfg = Config.fromfile(config)
    # the tool ends with the data set, which a RepeatDataset never does
    cfg.train_dataloader.dataset = cfg.train_dataloader.dataset.dataset
    cfg.visualizer.name = 'browse'
    cfg.dump(config)
    tool, out = 'analysis_tools/browse_dataset.py', tmp_path / 'out'
    parents_tool('mmdet', tool, config, '--not-show', '--output-dir', out)
    assert list(out.iterdir())


@pytest.mark.parametrize(
    'mode, drawn',
    [
        ('original', []),
        ('transformed', [(64, 64)] * 2),
        ('pipeline', [(96, 128), (64, 64), (64, 64)]),
    ],
)
def test_browse_pretraining_data_by_mmpretrain(
    pretraining, tmp_path, monkeypatch, mode, drawn
):
    """It draws our views, and the image from which they come."""
    adjust, figures = _tight_bbox.adjust_bbox, []
    if 'renderer' in inspect.signature(adjust).parameters:
        # its modes but 'original' know Matplotlib up to 3.10 alone
        monkeypatch.setattr(
            _tight_bbox,
            'adjust_bbox',
            lambda fig, box: adjust(fig, box, fig.canvas.get_renderer()),
        )
    create = mmpretrain.visualization.create_figure

    def keep(*args, **kwargs):
        figures.append(create(*args, **kwargs))
        return figures[-1]

    monkeypatch.setattr(mmpretrain.visualization, 'create_figure', keep)
    out = tmp_path / 'pictures'
    tool = 'visualization/browse_dataset.py'
    options = ['--not-show', '--show-number', 1, '--mode', mode]
    parents_tool('mmpretrain', tool, pretraining, *options, '-o', out)
    assert (out / 'a.jpg').stat().st_size > 5_000
    seen = [
        panel.get_images()[0].get_array().shape[:2]
        for figure in figures
        for panel in figure.axes
    ]
    assert seen == drawn


def rates(tmp_path, config, monkeypatch, *options, **changes):
    """The learning rates that MMPretrain's vis_scheduler.py draws."""

    def sleep(seconds):
        assert seconds < 1, 'the loop waited for data'

    monkeypatch.setattr(time, 'sleep', sleep)
    cfg = read_config(config)
    cfg.merge_from_dict(dict(changes, work_dir=str(tmp_path / 'work')))
    cfg.dump(tmp_path / 'schedule.py')
    picture = tmp_path / 'rates.png'
    tool, options = 'visualization/vis_scheduler.py', [*options, '--not-show']
    parents_tool(
        'mmpretrain', tool, tmp_path / 'schedule.py', '-s', picture, *options
    )
    assert picture.stat().st_size > 5_000
    (line,) = plt.gcf().axes[0].lines
    plt.close('all')
    return line.get_ydata()


def test_schedule_with_every_hook(tmp_path, monkeypatch):
    """Hooks that work on model or data leave a mere schedule alone."""
    names = [n for n in mmfgl.engine.hooks.__all__ if HOOKS.get(n)]
    assert set(ARGUMENTS) | OWN_PLACE < set(names)
    hooks = [
        dict(type=f'mmfgl.{name}', **ARGUMENTS.get(name, {}))
        for name in names
        if name not in OWN_PLACE
    ]
    config = ROOT / 'configs/retod/retod_r50-fpn_8xb64-100e_coco.py'
    changes = {'custom_hooks': hooks, 'train_cfg.max_epochs': 7}
    seen = rates(tmp_path, config, monkeypatch, '-d', 128, **changes)
    assert len(seen) == 14
    # up for 5 epochs, of two batches each
    assert (np.diff(seen[:10]) > 0).all()
    assert seen[-1] < seen[9]


def test_schedule_of_an_arm(tmp_path, monkeypatch):
    """Its rates are those of BudgetHook, which says nothing of what it cost.

    A loop of iterations has one batch to go through, without a pause.
    """
    name = 'objectness_fgl-faster-rcnn_r18-half-fpn_1xb8.py'
    config = ROOT / 'configs/transfer' / name
    changes = {'train_cfg.max_iters': 20}
    seen = rates(tmp_path, config, monkeypatch, **changes)
    factor = BudgetHook(warmup=0.05, min_lr_ratio=0.01).factor_at
    expected = [5e-4 * factor((i + 1) / 20) for i in range(20)]
    assert seen == pytest.approx(expected)
    assert not (tmp_path / 'work/budget.json').exists()
