from pathlib import Path

import mmengine.hub
import mmengine.registry
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

import mmfgl
import mmfgl.registry
from mmfgl.registry import MODELS

DETECTOR = (
    'fgl_faster_rcnn/'
    'fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py'
)
NAMES = [
    DETECTOR,
    'retod/retod_r50-fpn_8xb64-100e_coco.py',
    'transfer/distill_r18-half_1xb32.py',
]
ROOTS = [getattr(mmengine.registry, name) for name in mmfgl.registry.__all__]


def classes(cfg, scope, path=''):
    """What each `type` below `cfg` means: {path: one class a registry}."""
    found = {}
    if isinstance(cfg, dict):
        scope = cfg.get('_scope_') or scope
        if isinstance(cfg.get('type'), str):
            with DefaultScope.overwrite_default_scope(scope):
                found[path] = [look_up(root, cfg['type']) for root in ROOTS]
        cfg = cfg.items()
    elif isinstance(cfg, (list, tuple)):
        cfg = enumerate(cfg)
    else:
        cfg = ()
    for key, value in cfg:
        found |= classes(value, scope, f'{path}.{key}')
    return found


def look_up(root, name):
    with root.switch_scope_and_registry(None) as registry:
        try:
            return registry.get(name)
        except KeyError:  # MMEngine 0.10.7 gives None
            return None


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('name', NAMES)
def test_a_child_means_the_same_classes(name, empty_folder):
    child = empty_folder / 'child.py'
    child.write_text(f"_base_ = 'mmfgl::{name}'\nmodel = dict(x=1)\n")

    inherited = Config.fromfile(child)
    own = mmfgl.get_config(f'mmfgl::{name}')

    assert inherited.model.pop('x') == 1
    for key in ('model', 'train_dataloader', 'custom_hooks', 'optim_wrapper'):
        found = classes(own[key], own.default_scope)
        assert any(map(any, found.values()))
        assert classes(inherited[key], own.default_scope) == found


def test_the_hub_reads_the_same(empty_folder):
    own = mmfgl.get_config(DETECTOR).to_dict()

    assert mmengine.hub.get_config(f'mmfgl::{DETECTOR}').to_dict() == own
    assert mmfgl.get_config(f'mmfgl::{DETECTOR}').to_dict() == own


def test_a_base_read_by_name_builds(empty_folder):
    child = empty_folder / 'child.py'
    child.write_text(
        f"_base_ = 'mmfgl::{DETECTOR}'\nmodel = dict(neck=_base_.model.neck)\n"
    )
    model = Config.fromfile(child).model
    model.backbone.init_cfg = None

    assert type(MODELS.build(model)) is mmfgl.FGLFasterRCNN


def test_a_wrong_name_is_answered_with_near_ones():
    with pytest.raises(FileNotFoundError, match='retod_r50-fpn_8xb64-100e'):
        mmfgl.get_config('mmfgl::retod/retod_r50-fpn_8xb64_coco.py')


@pytest.mark.parametrize('name', ['FGLFasterRCNN', 'ReToD', 'RoITTAModel'])
def test_registered_classes_are_attributes(name):
    assert getattr(mmfgl, name) is MODELS.get(f'mmfgl.{name}')
    assert name in dir(mmfgl)


def test_unknown_names():
    for name in ('NoSuchClass', 'no_such_function'):
        with pytest.raises(AttributeError, match=name):
            getattr(mmfgl, name)


def test_functions_are_attributes():
    missing = []
    for name in set(mmfgl.__all__) - {'__version__'}:
        if not callable(getattr(mmfgl, name)):
            missing.append(name)
    assert not missing


def test_the_citation_is_of_this_version():
    path = Path(mmfgl.__file__).resolve().parents[1] / 'CITATION.cff'
    if not path.is_file():
        pytest.skip('mmfgl is installed from a wheel')

    assert f'\nversion: {mmfgl.__version__}\n' in path.read_text()
