import json
import os
import subprocess
import sys
from pathlib import Path

import mmengine.registry
import pytest

import mmfgl.registry

ROOT = Path(mmfgl.registry.__file__).parents[1]
NODES = mmfgl.registry.__all__

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
import mmdet.registry, mmdet.utils, mmengine.registry
import mmpretrain.registry, mmpretrain.utils
from mmengine.registry import Registry

PARENTS = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain')
# Caches that Python keeps in classes and modules.
IGNORED = ('_abc_impl', '__slotnames__', '__warningregistry__')

mmdet.utils.register_all_modules(init_default_scope=False)
mmpretrain.utils.register_all_modules(init_default_scope=False)
import mmdet.apis, mmengine.hub, mmengine.runner


def of_parents(module_name):
    return module_name.split('.')[0] in PARENTS


def of_mmfgl(value):
    return str(getattr(value, '__module__', '')).startswith('mmfgl')


def snapshot():
    entries, attributes = {}, {}
    for module in (mmengine.registry, mmdet.registry, mmpretrain.registry):
        for key, node in vars(module).items():
            if isinstance(node, Registry):
                where = (module.__name__, key)
                entries[where] = dict(node.module_dict)
                attributes[where, 'parent'] = node.parent
                attributes[where, 'scope'] = node.scope
                attributes[where, 'build_func'] = node.build_func
                attributes[where, 'locations'] = tuple(node._locations)
                for scope, child in node.children.items():
                    attributes[where, 'child', scope] = child
    for name, module in list(sys.modules.items()):
        if not of_parents(name):
            continue
        for key, value in list(vars(module).items()):
            if key in IGNORED:
                continue
            attributes[name, key] = value
            if inspect.isclass(value) and of_parents(value.__module__):
                for attribute, member in list(vars(value).items()):
                    if attribute not in IGNORED:
                        attributes[name, key, attribute] = member
    return entries, attributes


def changes(before, after):
    (entries, attributes), (new_entries, new_attributes) = before, after
    missing = object()
    # A parent's module may be imported for the first time by mmfgl and
    # register its own classes: what counts is what was there before, and that
    # mmfgl registers nothing.
    wrong = [
        (where, name)
        for where, old in entries.items()
        for name in old
        if new_entries[where].get(name, missing) is not old[name]
    ]
    wrong += [
        (where, name)
        for where, new in new_entries.items()
        for name, value in new.items()
        if of_mmfgl(value)
    ]
    for key, value in attributes.items():
        found = new_attributes.get(key, missing)
        if found is not value and not (
            isinstance(value, (str, tuple)) and found == value
        ):
            wrong.append(key)
    for key in new_attributes.keys() - attributes.keys():
        if key[1] == 'child':  # of a root: mmfgl's node and no other
            wrong += [key] if key[2] != 'mmfgl' else []
        elif len(key) == 3 and key[:2] in attributes:  # of a class
            wrong.append(key)
        elif len(key) == 2 and of_mmfgl(new_attributes[key]):
            wrong.append(key)
    return sorted(map(str, wrong))


before = snapshot()
import mmfgl
names = [info.name for info in pkgutil.walk_packages(mmfgl.__path__, 'mmfgl.')]
for name in names:
    importlib.import_module(name)
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
    'attributes': len(before[1]),
    'changed': changes(before, after),
    'tampered': changes(after, tampered),
}))
"""


def run(script, *args):
    return subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', script, *args],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize('name', NODES)
def test_nodes_are_children_of_the_root(name):
    node = getattr(mmfgl.registry, name)
    root = getattr(mmengine.registry, name)
    assert node.parent is root
    assert node.scope == 'mmfgl'
    assert root.children['mmfgl'] is node


@pytest.mark.parametrize('name', NODES)
def test_every_class_comes_from_its_location(name):
    node = getattr(mmfgl.registry, name)
    node.import_from_location()
    for registered, cls in node.module_dict.items():
        assert registered == cls.__name__
        assert cls.__module__.startswith(tuple(node._locations)), registered


def test_no_name_of_a_parent_is_taken():
    import mmdet.registry
    import mmpretrain.registry

    for name in NODES:
        own = getattr(mmfgl.registry, name)
        own.import_from_location()
        for package in (mmdet, mmpretrain):
            parents = getattr(package.registry, name)
            parents.import_from_location()
            assert not own.module_dict.keys() & parents.module_dict.keys()


@pytest.mark.parametrize('scope', ['mmdet', 'mmpretrain'])
def test_found_from_the_parents_scopes(scope):
    done = run(FIND_FROM_SCOPE, scope)
    assert done.returncode == 0, done.stderr
    assert 'found 9' in done.stdout


def test_importing_mmfgl_changes_nothing_in_the_parents():
    done = run(IMPORT_CHANGES_NOTHING)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
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
