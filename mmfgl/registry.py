"""Registry nodes of mmfgl, under the scope ``mmfgl``.

Every node is a child of MMEngine's root, not of mmdet's or mmpretrain's node:
``mmfgl.X`` then builds from either of their scopes. MMEngine imports this
module when it meets the prefix ``mmfgl.`` in a config, and the ``locations``
when a name is looked up, so no config needs ``custom_imports``.
"""

import mmengine.registry as roots
from mmengine.registry import Registry


def _node(name: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        name,
        parent=parent,
        scope='mmfgl',
        locations=[f'mmfgl.{location}' for location in locations],
    )


# Networks, their parts, losses and test-time wrappers.
MODELS = _node('model', roots.MODELS, 'models')
# Data sets of unlabelled images.
DATASETS = _node('dataset', roots.DATASETS, 'datasets')
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

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'TASK_UTILS',
    'TRANSFORMS',
]
