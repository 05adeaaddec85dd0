"""Registry nodes of mmfgl, under the scope ``mmfgl``.

Every node is a child of MMEngine's root, not of mmdet's or mmpretrain's node:
``mmfgl.X`` then builds from either of their scopes. MMEngine imports this
module when it meets the prefix ``mmfgl.`` in a config, and the ``locations``
when a name is looked up, so no config needs ``custom_imports``.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

# Networks, their parts, losses and test-time wrappers.
MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmfgl',
    locations=['mmfgl.models'],
)
# Data sets of unlabelled images.
DATASETS = Registry(
    'dataset',
    parent=MMENGINE_DATASETS,
    scope='mmfgl',
    locations=['mmfgl.datasets'],
)
# Steps of a data pipeline, e.g. the two-view transform.
TRANSFORMS = Registry(
    'transform',
    parent=MMENGINE_TRANSFORMS,
    scope='mmfgl',
    locations=['mmfgl.datasets.transforms'],
)
# Candidate selection and region proposers.
TASK_UTILS = Registry(
    'task util',
    parent=MMENGINE_TASK_UTILS,
    scope='mmfgl',
    locations=[
        'mmfgl.models.task_modules',
        'mmfgl.datasets.region_proposers',
    ],
)
# Hooks of the training loop.
HOOKS = Registry(
    'hook',
    parent=MMENGINE_HOOKS,
    scope='mmfgl',
    locations=['mmfgl.engine'],
)
# Optimizer wrappers, e.g. mixed precision on a CPU.
OPTIM_WRAPPERS = Registry(
    'optim_wrapper',
    parent=MMENGINE_OPTIM_WRAPPERS,
    scope='mmfgl',
    locations=['mmfgl.engine'],
)
# Evaluation metrics.
METRICS = Registry(
    'metric',
    parent=MMENGINE_METRICS,
    scope='mmfgl',
    locations=['mmfgl.evaluation'],
)

__all__ = [
    'DATASETS',
    'HOOKS',
    'METRICS',
    'MODELS',
    'OPTIM_WRAPPERS',
    'TASK_UTILS',
    'TRANSFORMS',
]
