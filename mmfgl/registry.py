"""Registry nodes of mmfgl, under the scope ``mmfgl``.

Every node is a child of MMEngine's root, not of mmdet's or mmpretrain's node:
``mmfgl.X`` then builds from either of their scopes. MMEngine imports this
module when it meets the prefix ``mmfgl.`` in a config, and the ``locations``
when a name is looked up, so no config needs ``custom_imports``.

MMEngine reads a base ``mmfgl::...`` in the scope ``mmfgl`` instead of the
config's default scope: a name without prefix then means mmdet's class, as it
does in the config itself, or mmpretrain's if mmdet has none of that name. What
means mmpretrain's in spite of one of mmdet's says so by ``_scope_``.
"""

from importlib import import_module
from typing import Any

import mmengine.registry as roots
from mmengine.registry import Registry


class ScopedRegistry(Registry):
    """A registry whose names without prefix are its own, else a parent's."""

    def get(self, key: str) -> Any:
        """Look up a class, see :meth:`mmengine.Registry.get`."""
        self.import_from_location()
        scope, name = self.split_scope_key(key)
        if scope is None and name not in self.module_dict:
            for parent in ('mmdet', 'mmpretrain'):
                import_module(f'{parent}.registry')
                node = self.parent.children.get(parent)
                # not every root has a child there, and an empty one is False
                if node is not None and (found := node.get(name)):
                    return found  # it has looked in the root too
        return super().get(key)


def _node(name: str, parent: Registry, *locations: str) -> Registry:
    return ScopedRegistry(
        name,
        parent=parent,
        scope='mmfgl',
        locations=[f'mmfgl.{location}' for location in locations],
    )


# Networks, their parts, losses and test-time wrappers.
MODELS = _node('model', roots.MODELS, 'models')
# Data sets of unlabelled images.
DATASETS = _node('dataset', roots.DATASETS, 'datasets')
# Orders of the images.
DATA_SAMPLERS = _node('data sampler', roots.DATA_SAMPLERS, 'datasets')
# Steps of a data pipeline, e.g. the region views.
TRANSFORMS = _node('transform', roots.TRANSFORMS, 'datasets.transforms')
# Candidate selection and region proposers.
TASK_UTILS = _node(
    'task util',
    roots.TASK_UTILS,
    'models.task_modules',
    'datasets.region_proposers',
)
# Hooks of the training loop.
HOOKS = _node('hook', roots.HOOKS, 'engine', 'visualization')
# Optimizer wrappers, e.g. mixed precision on a CPU.
OPTIM_WRAPPERS = _node('optim_wrapper', roots.OPTIM_WRAPPERS, 'engine')
# Evaluation metrics.
METRICS = _node('metric', roots.METRICS, 'evaluation')
# The others: nothing of mmfgl's is in them, but its scope is known there.
for _root in list(vars(roots).values()):
    if isinstance(_root, Registry) and 'mmfgl' not in _root.children:
        _node(_root.name, _root, 'registry')

__all__ = [
    'DATASETS',
    'DATA_SAMPLERS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'TASK_UTILS',
    'TRANSFORMS',
]
