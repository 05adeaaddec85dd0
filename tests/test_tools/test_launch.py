"""tools/train.py and tools/test.py, end to end."""

import io
import itertools
import json
import pickle
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmfgl.testing.data import tiny_coco
from mmfgl.utils import cpu_dist
from mmfgl.utils import launch as launching
from mmfgl.utils.audit import audit_config
from mmfgl.utils.weights import check_weights

ROOT = Path(__file__).parents[2]
RUNS = itertools.count()
CONFIG = str(Path(__file__).with_name('tiny_detector.py'))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'digits'
    return str(tiny_coco(root, num_images=4, num_val=2, num_unlabelled=1))


@pytest.fixture
def cfg(data):
    cfg = Config.fromfile(CONFIG)
    launching.replace_data_root(cfg, data)
    return cfg


def run_tool(name, *arguments):
    """Run a tool in this process: an import of torch costs seconds.

    The arguments end with those of --cfg-options. MMEngine would share the
    logger between two runs of one name that start in the same second.
    """
    arguments += (f'experiment_name=run{next(RUNS)}',)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / 'tools' / name), run_name='__main__')


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """Work dir of one epoch."""
    work_dir = tmp_path_factory.mktemp('trained')
    options = ('--work-dir', work_dir, '--cfg-options', f'data_root={data}')
    terminal = io.StringIO()
    with redirect_stdout(terminal), redirect_stderr(terminal):
        run_tool('train.py', CONFIG, *options)
    (work_dir / 'terminal.txt').write_text(terminal.getvalue())
    return work_dir


def read_losses(work_dir):
    """What was logged of each training iteration."""
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    records = map(json.loads, file.open())
    return [record for record in records if 'loss' in record]


def test_train(trained):
    assert (trained / 'epoch_1.pth').is_file()
    assert len(read_losses(trained)) == 4  # 4 images, twice, in pairs


def test_quiet_start(trained):
    lines = (trained / 'terminal.txt').read_text().splitlines()
    start = next(i for i, x in enumerate(lines) if 'Epoch(train)' in x)
    assert start <= 40
    shown = '\n'.join(lines[:start])
    facts = ['mmengine 0.', '1 process on', 'FasterRCNN, ']
    facts += ['no file: backbone, neck', 'SGD, lr ', 'ETA', str(trained)]
    facts += ['8 images (RepeatDataset) to train on, batches of 2']
    assert not [fact for fact in facts if fact not in shown]
    (log,) = trained.glob('*/*.log')
    dump = ['System environment', 'Config:', 'roi_head=dict(', 'index created']
    dump += ['(VERY_LOW    ) CheckpointHook', 'Ready to train']
    assert not [words for words in dump if words not in log.read_text()]
    assert not [words for words in dump[:-1] if words in shown]


def test_amp_resume_and_scaled_lr(trained, data, tmp_path):
    run_tool(
        'train.py',
        *(CONFIG, '--work-dir', tmp_path, '--amp', '--auto-scale-lr'),
        *('--resume', trained / 'epoch_1.pth'),
        *('--cfg-options', f'data_root={data}', 'train_cfg.max_epochs=2'),
    )
    records = read_losses(tmp_path)
    assert [x['iter'] for x in records] == [5, 6, 7, 8]
    assert all(torch.isfinite(torch.tensor(x['loss'])) for x in records)
    dump = Config.fromfile(tmp_path / 'tiny_detector.py')
    assert 'AmpOptimWrapper' in dump.optim_wrapper.type
    assert dump.auto_scale_lr.enable


@pytest.mark.parametrize(
    'flags', [[], ['--tta'], ['--tta', '--views', 'slices']]
)
def test_test(trained, data, tmp_path, flags):
    run_tool(
        'test.py',
        *(CONFIG, trained / 'epoch_1.pth', '--work-dir', tmp_path),
        *('--out', tmp_path / 'out.pkl', '--show-dir', 'shown', *flags),
        *('--cfg-options', f'data_root={data}'),
        'model.test_cfg.rcnn.score_thr=0.0',
    )
    (metrics,) = tmp_path.glob('*/*.json')
    assert 'coco/bbox_mAP' in json.loads(metrics.read_text())
    predictions = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert len(predictions) == 2
    assert len(list(tmp_path.glob('*/shown/*'))) == 2
    dump = Config.fromfile(tmp_path / 'tiny_detector.py')
    assert ('module' in dump.model) == bool(flags)


def test_a_test_leaves_the_training_alone(
    trained, data, tmp_path, monkeypatch
):
    config = Path(CONFIG).resolve()
    monkeypatch.chdir(tmp_path)
    options = ('--cfg-options', f'data_root={data}')
    run_tool('test.py', config, trained / 'epoch_1.pth', *options)
    (folder,) = (tmp_path / 'work_dirs').iterdir()
    assert [path.name for path in folder.iterdir()] == ['test']
    assert (folder / 'test/metrics.json').is_file()


@pytest.mark.parametrize('flags', [[], ['--tta']])
def test_checkpoint_of_another_model(trained, data, tmp_path, flags):
    checkpoint = torch.load(trained / 'epoch_1.pth', weights_only=False)
    state = checkpoint['state_dict']
    del state['backbone.conv1.weight']
    state['neck.surplus'] = torch.zeros(1)
    state['rpn_head.rpn_cls.weight'] = torch.zeros(2, 2)
    torch.save(checkpoint, tmp_path / 'other.pth')
    options = (*flags, '--work-dir', tmp_path, '--cfg-options')
    options += (f'data_root={data}',)
    with pytest.raises(SystemExit, match='does not belong') as error:
        run_tool('test.py', CONFIG, tmp_path / 'other.pth', *options)
    for key in ('backbone.conv1.weight', 'neck.surplus', 'rpn_cls.weight'):
        assert key in str(error.value)


def test_missing_files(tmp_path):
    with pytest.raises(SystemExit, match='error: .*data_root=DIR'):
        run_tool('train.py', CONFIG, '--work-dir', tmp_path, '--cfg-options')
    with pytest.raises(SystemExit, match='error: .*none.pth'):
        run_tool('test.py', CONFIG, 'none.pth', '--cfg-options')
    assert not list(tmp_path.iterdir())  # stopped before the Runner


def test_flags_need_their_config(cfg):
    for value in (None, {}):
        cfg.auto_scale_lr = value
        with pytest.raises(ValueError, match='base_batch_size'):
            launching.set_auto_scale_lr(cfg)
    with pytest.raises(SystemExit, match='2'):
        run_tool('test.py', CONFIG, 'a.pth', '--views', 'flip')


def test_data_root_moves_every_path(cfg, data):
    assert cfg.data_root == f'{data}/'  # the slash of the config is kept
    assert cfg.val_evaluator.ann_file == f'{data}/annotations/val.json'
    other = Config(dict(data_root='a/b', x=['a/b/c', 'a/bc'], y=('a/b',)))
    launching.replace_data_root(other, '/new/')
    assert other.data_root == '/new'
    assert other.x == ['/new/c', 'a/bc']
    assert other.y == ('/new',)


@pytest.mark.parametrize('amp', [True, False])
def test_amp_in_the_config(data, amp, monkeypatch, tmp_path, capsys):
    built = []
    monkeypatch.setattr(launching.Runner, 'from_cfg', built.append)
    options = ('--work-dir', tmp_path, '--cfg-options')
    options += (f'data_root={data}', f'amp={amp}')
    with pytest.raises(SystemExit):  # None has no hooks
        run_tool('train.py', CONFIG, *options)
    error = "'NoneType' object has no attribute 'hooks'"
    assert error in capsys.readouterr().err
    assert ('Amp' in built[0].optim_wrapper.type) == amp


def test_amp_fits_the_device(cfg, monkeypatch):
    monkeypatch.setattr(launching, 'get_device', lambda: 'cuda')
    launching.set_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    monkeypatch.setattr(launching, 'get_device', lambda: 'cpu')
    launching.set_amp(cfg)
    assert cfg.optim_wrapper.type == 'mmfgl.CPUAmpOptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        launching.set_amp(cfg)


VAL = 'val_dataloader.dataset'
IN_A_WRAPPER = 'train_dataloader.dataset.dataset'


@pytest.mark.parametrize(
    ('key', 'value', 'error', 'message'),
    [
        ('model.roi_head.bbox_head.num_classes', 9, ValueError, '=9.*10 cl'),
        (f'{IN_A_WRAPPER}.metainfo', 'n012345678', ValueError, "missing: 'n'"),
        (f'{VAL}.metainfo', '9012345678', ValueError, 'another order'),
        (f'{VAL}.metainfo', None, ValueError, 'val_dataloader has 80 cl'),
        (f'{VAL}.ann_file', 'none.json', FileNotFoundError, r'none\.json'),
    ],
)
def test_classes_must_fit(cfg, key, value, error, message):
    audit_config(cfg)
    if key.endswith('metainfo'):
        value = value and dict(_delete_=True, classes=tuple(value))
    cfg.merge_from_dict({key: value})
    with pytest.raises(error, match=message):
        audit_config(cfg)


def test_weights_must_exist(cfg, trained):
    cfg.load_from = str(trained / 'epoch_1.pth')
    cfg.model.backbone.init_cfg = [
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ]
    check_weights(cfg)
    path = 'none/efficientnet-lite0.pth'
    cfg.model.backbone.init_cfg[1].checkpoint = path
    with pytest.raises(FileNotFoundError, match=f'--out {path}'):
        check_weights(cfg)
    cfg.model.backbone.init_cfg.pop()
    cfg.load_from = 'none.pth'
    with pytest.raises(FileNotFoundError, match='load_from=CHECKPOINT'):
        check_weights(cfg)
    # the main process has checked it, and may have set it aside since
    cfg.resume = True
    check_weights(cfg)


def test_launcher_without_its_variables(monkeypatch):
    monkeypatch.setattr(cpu_dist, 'get_device', lambda: 'cpu')
    monkeypatch.delenv('RANK', raising=False)
    cfg = Config(dict(launcher='none'))
    cpu_dist.init_cpu_dist(cfg)
    assert 'model_wrapper_cfg' not in cfg
    cfg.launcher = 'pytorch'
    with pytest.raises(KeyError, match='variable RANK'):
        cpu_dist.init_cpu_dist(cfg)
