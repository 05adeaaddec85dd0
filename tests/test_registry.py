import json
import os
import subprocess
import sys
from pathlib import Path

import mmdet.registry
import mmengine.registry
import mmpretrain.registry
import pytest

import mmfgl.registry

ROOT = Path(mmfgl.registry.__file__).parents[1]

# Nothing of mmfgl is imported: MMEngine finds the package by the prefix.
FIND_FROM_SCOPE = """
import importlib, sys
from mmengine import DefaultScope

scope = sys.argv[1]
registry = importlib.import_module(f'{scope}.registry')
DefaultScope.get_instance('test', scope_name=scope)
found = {
    'FGLFasterRCNN': registry.MODELS,
    'ReToD': registry.MODELS,
    'RoITTAModel': registry.MODELS,
    'RegionViews': registry.TRANSFORMS,
    'UnlabelledImages': registry.DATASETS,
    'CPUAmpOptimWrapper': registry.OPTIM_WRAPPERS,
    'CandidateSelector': registry.TASK_UTILS,
    'GridRegions': registry.TASK_UTILS,
    'FGLMetric': registry.METRICS,
}
assert 'mmfgl' not in sys.modules
for name, node in found.items():
    cls = node.get(f'mmfgl.{name}')
    assert cls is not None and cls.__name__ == name, (name, cls)
built = registry.TASK_UTILS.build(dict(type='mmfgl.GridRegions'))
assert type(built).__module__.startswith('mmfgl.'), built
print('found', len(found))
"""

# References are kept, so that an id cannot be given to another object.
IMPORT_CHANGES_NOTHING = """
import importlib, inspect, json, pkgutil, sys
import mmdet.utils, mmpretrain.utils
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import Registry

mmdet.utils.register_all_modules(init_default_scope=False)
mmpretrain.utils.register_all_modules(init_default_scope=False)
import mmdet.apis, mmengine.hub, mmengine.runner

# Caches that Python keeps in classes and modules.
IGNORED = ('_abc_impl', '__slotnames__', '__warningregistry__')


def of_parents(name):
    return name.split('.')[0] in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')


def members(value):
    if isinstance(value, Registry):
        children = {f'child {k}': v for k, v in value.children.items()}
        names = ('parent', 'scope', 'build_func')
        fixed = {name: getattr(value, name) for name in names}
        places = dict(locations=tuple(value._locations))
        return {**value.module_dict, **children, **fixed, **places}
    if inspect.isclass(value) and of_parents(value.__module__):
        return vars(value)
    return {}


def snapshot():
    seen = {}
    for name, module in list(sys.modules.items()):
        if of_parents(name):
            for key, value in list(vars(module).items()):
                seen[name, key] = value
                if not isinstance(value, Registry) or 'registry' in name:
                    for inner, member in list(members(value).items()):
                        seen[name, key, inner] = member
    return {k: v for k, v in seen.items() if k[-1] not in IGNORED}


def changes(before, after):
    wrong = list(before.keys() - after.keys())
    for key, value in after.items():
        old = before.get(key)
        if key in before:
            same = isinstance(value, (str, tuple)) and value == old
            bad = value is not old and not same
        elif key[-1].startswith('child '):  # of a root, mmfgl's and no other
            bad = (value.scope, value.parent.scope) != ('mmfgl', 'mmengine')
        else:  # a parent's module may be imported for the first time
            bad = inspect.isclass(before.get(key[:2])) and len(key) == 3
            bad |= str(getattr(value, '__module__', '')).startswith('mmfgl')
        wrong += [key] if bad else []
    return sorted(map(str, wrong))


before = snapshot()
table = dict(MODULE2PACKAGE)
import mmfgl
assert {**table, 'mmfgl': 'mmfgl.version'} == MODULE2PACKAGE, MODULE2PACKAGE
names = [info.name for info in pkgutil.walk_packages(mmfgl.__path__, 'mmfgl.')]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        assert error.name == 'gradio'  # an extra
after = snapshot()

# The comparison itself must see a change of each kind.
from mmdet.models import FasterRCNN, StandardRoIHead
FasterRCNN.forward = lambda self: None
StandardRoIHead.bbox_loss = None
mmdet.utils.helper = mmfgl.check_parents
mmdet.registry.MODELS._module_dict['RPNHead'] = FasterRCNN
mmdet.registry.MODELS.register_module('Added', module=mmfgl.models.ReToD)
tampered = snapshot()

print(json.dumps({
    'modules': len(names),
    'attributes': len(before),
    'changed': changes(before, after),
    'tampered': changes(after, tampered),
}))
"""


def run(script, *args):
    """Run Python code; return what it prints."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script, *args],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('name', mmfgl.registry.__all__)
def test_nodes(name):
    node = getattr(mmfgl.registry, name)
    root = getattr(mmengine.registry, name)
    assert node.scope == 'mmfgl'
    assert node.parent is root and root.children['mmfgl'] is node
    node.import_from_location()
    for registered, cls in node.module_dict.items():
        assert registered == cls.__name__
        assert cls.__module__.startswith(tuple(node._locations)), registered
    for package in (mmdet, mmpretrain):  # none of their names is taken
        parents = getattr(package.registry, name)
        parents.import_from_location()
        assert not node.module_dict.keys() & parents.module_dict.keys()


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_found_from_the_parents_scopes(scope):
    assert 'found 9' in run(FIND_FROM_SCOPE, scope)


def test_importing_mmfgl_changes_nothing_in_the_parents():
    seen = json.loads(run(IMPORT_CHANGES_NOTHING).splitlines()[-1])
    assert seen['modules'] > 20
    assert seen['attributes'] > 10000
    assert seen['changed'] == []
    tampered = '\n'.join(seen['tampered'])
    for what in (
        "'FasterRCNN', 'forward'",
        "'StandardRoIHead', 'bbox_loss'",
        "'mmdet.utils', 'helper'",
        "'RPNHead'",
        "'Added'",
    ):
        assert what in tampered
