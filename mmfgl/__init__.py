"""Fine-grained object localization on MMDetection and MMPretrain.

The functions of ``__all__`` and every registered class (``mmfgl.ReToD``, as
configs write it) are attributes of the package, imported at their first use.
"""

import importlib
from typing import Any

from .version import __version__, check_parents

check_parents()

from mmengine.config.utils import MODULE2PACKAGE  # noqa: E402

# A base 'mmfgl::retod/x.py' is looked for beside this module. Under the name
# of the distribution MMEngine 0.10.7 would not find an editable install.
MODULE2PACKAGE['mmfgl'] = 'mmfgl.version'

_FUNCTIONS = dict(
    export='mmfgl.deploy',
    get_config='mmfgl.utils.paths',
    predict='mmfgl.recipes.predicting',
    report='mmfgl.reports',
    run='mmfgl.recipes.running',
)

__all__ = [  # noqa: F822  (__getattr__ gives them)
    '__version__',
    'export',
    'get_config',
    'predict',
    'report',
    'run',
]


def _registered() -> dict[str, type]:
    """Every registered class by its name; imports all of mmfgl."""
    registry = importlib.import_module('mmfgl.registry')
    classes = {}
    for name in registry.__all__:
        node = getattr(registry, name)
        node.import_from_location()
        classes.update(node.module_dict)
    return classes


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    # a lower-case name may be a submodule that Python looks for here first
    if name[0].isupper() and name in (classes := _registered()):
        return classes[name]
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_registered()})
