"""What the commands ``mmfgl run``, ``predict`` and ``demo`` do."""

import importlib
from typing import Any

# Function -> its module, imported at its first use: each needs torch.
_FUNCTIONS = {
    'find_trained': 'trained',
    'load_detector': 'trained',
    'predict': 'predicting',
    'run': 'running',
}

__all__ = ['find_trained', 'load_detector', 'predict', 'run']  # noqa: F822


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        module = importlib.import_module(f'{__name__}.{_FUNCTIONS[name]}')
        return getattr(module, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
