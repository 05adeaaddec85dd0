import json
import shutil
from pathlib import Path

import pytest
import torch
from mmdet.evaluation import get_classes
from mmengine.config import Config

from mmfgl.recipes.trained import SCORE_THR, find_trained, load_detector
from tests.strangers import Call


def test_the_best_of_a_run(run_dir):
    trained = find_trained(run_dir)
    assert trained.config == run_dir / 'configs/retod.py'
    assert trained.checkpoint == run_dir / 'retod/iter_5.pth'
    assert trained.title == f'{run_dir.name} (ImageNet, then ReToD)'
    assert trained.score_thr == 0.01
    model = load_detector(trained, 'cpu')
    assert model.dataset_meta['classes'] == ('cell', 'nucleus', 'thing')
    assert not model.training


def test_a_run_without_tests(run_dir, tmp_path):
    shutil.copytree(run_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / 'results.json').unlink()
    assert find_trained(tmp_path).score_thr == SCORE_THR
    shutil.move(tmp_path / 'retod', tmp_path / 'imagenet')
    shutil.copy(
        tmp_path / 'configs/retod.py', tmp_path / 'configs/imagenet.py'
    )
    assert find_trained(tmp_path).checkpoint.parent == tmp_path / 'imagenet'
    (tmp_path / 'results.json').write_text(json.dumps(dict(arms={})))
    with pytest.raises(ValueError, match='is not of an `mmfgl run`'):
        find_trained(tmp_path)


def test_config_and_checkpoint(run_dir, tmp_path):
    config = run_dir / 'configs/retod.py'
    checkpoint = run_dir / 'retod/iter_5.pth'
    trained = find_trained(config, checkpoint)
    assert (trained.title, trained.score_thr) == ('retod', SCORE_THR)
    other = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(2))), other)
    with pytest.raises(RuntimeError, match='does not belong to the model'):
        load_detector(find_trained(config, other), 'cpu')


def test_classes_of_a_file(run_dir, tmp_path):
    (tmp_path / 'classes.txt').write_text('a b\nc\nd\n')
    cfg = Config.fromfile(run_dir / 'configs/retod.py')
    checkpoint = run_dir / 'retod/iter_5.pth'
    for classes, expected in (
        (str(tmp_path / 'classes.txt'), ('a b', 'c', 'd')),
        (None, tuple(get_classes('coco'))),  # the file names none either
    ):
        cfg.metainfo = dict(classes=classes)
        cfg.dump(tmp_path / 'config.py')
        trained = find_trained(tmp_path / 'config.py', checkpoint)
        model = load_detector(trained, 'cpu')
        assert tuple(model.dataset_meta['classes']) == expected


def test_files_of_strangers(run_dir, tmp_path):
    """What predict, export and demo read runs no code of its own."""
    config, mark = run_dir / 'configs/retod.py', tmp_path / 'code_ran'
    sound, path = run_dir / 'retod/iter_5.pth', tmp_path / 'bad.pth'
    content = torch.load(sound, weights_only=False)
    torch.save(content | dict(extra=Call(Path.touch, mark)), path)
    cfg = Config.fromfile(config)
    cfg.model.backbone.checkpoint_path = str(path)  # which timm would open
    cfg.dump(tmp_path / 'timm.py')
    for given in ((config, path), (tmp_path / 'timm.py', sound)):
        with pytest.raises(ValueError, match='--trust-checkpoint'):
            load_detector(find_trained(*given), 'cpu')
    assert not mark.exists()
    load_detector(find_trained(config, path), 'cpu', trust=True)
    assert mark.exists()


@pytest.mark.parametrize(
    ('names', 'error', 'message'),
    [
        (['nothing'], FileNotFoundError, 'does not exist'),
        (['empty'], FileNotFoundError, 'has no trained detector'),
        (['empty', 'a.pth'], ValueError, 'is a folder'),
        (['a.py'], ValueError, 'give its checkpoint too'),
        (['a.py', 'b.pth'], FileNotFoundError, 'checkpoint does not exist'),
    ],
)
def test_what_is_wrong_is_told(tmp_path, names, error, message):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'a.py').touch()
    with pytest.raises(error, match=message):
        find_trained(*(tmp_path / name for name in names))
