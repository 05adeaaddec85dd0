"""No code of the project unpickles a file but by ``safe_load``."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = [
    path
    for folder in ('mmfgl', 'tools', 'configs', 'resources', 'docs')
    for path in sorted((ROOT / folder).rglob('*.py'))
    if '.mim' not in path.parts
]
OWN = 'mmfgl/utils/weights/safe_load.py'
PICKLES = {'pickle', 'cPickle', 'dill', 'joblib', 'cloudpickle', 'shelve'}
# what reads checkpoints as MMEngine's loaders are set
READERS = {
    *('CheckpointLoader', 'load_checkpoint', 'init_detector', 'init_model'),
    *('DetInferencer', 'build_runner', 'read_checkpoint'),
}
# of the library: whoever calls them has called use_safe_loading
CALLED = {
    'mmfgl/engine/guarded_run.py',
    'mmfgl/engine/hooks/strict_load_hook.py',
    'mmfgl/models/selfsup/teachers/frozen_teacher.py',
    'mmfgl/utils/weights/checks.py',
    'mmfgl/utils/weights/loader.py',
    'tools/dataset_converters/region_search/detector_regions.py',
}


def faults_of(tree):
    """Imports and calls that unpickle."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or '']
            imported = {alias.name for alias in node.names}
            # it reads .pkl as well
            if names == ['mmengine.fileio'] and 'load' in imported:
                yield 'mmengine.fileio.load'
        else:
            names = []
        yield from PICKLES & {name.partition('.')[0] for name in names}
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == 'torch.load' and given.get('weights_only') != 'True':
            yield called
        if called in ('mmengine.load', 'torch.hub.load', 'jit.load'):
            yield called
        if given.get('allow_pickle') == 'True':
            yield f'{called} with allow_pickle'


@pytest.fixture(scope='module')
def trees():
    return {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text())
        for path in FILES
    }


def test_nothing_unpickles(trees):
    found = {name: set(faults_of(tree)) for name, tree in trees.items()}
    assert found.pop(OWN) == {'pickle', 'torch.load'}
    assert {name: x for name, x in found.items() if x} == {}


def test_readers_are_made_safe(trees):
    found = set()
    for name, tree in trees.items():
        used = {
            node.id if isinstance(node, ast.Name) else node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Name | ast.alias)
        }
        if used & READERS and 'use_safe_loading' not in used:
            found.add(name)
    assert found == CALLED
