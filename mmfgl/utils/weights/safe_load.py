"""Read checkpoints without running code that is hidden in them.

A pickle may name any function of any installed package and call it. Here the
names are looked up in a list of what genuine checkpoints of PyTorch and
MMEngine hold, on every version of PyTorch in the same way:
``torch.load(weights_only=True)`` refuses MMEngine's own checkpoints, has no
list to add to before 2.5, and could be outwitted before 2.6 (CVE-2025-32434).
"""

from __future__ import annotations

import argparse
import collections
import os.path as osp
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

from .kinds import CheckpointError, check_checkpoint, identify


def safe_load(
    path: str, trust: bool = False, map_location: Any = 'cpu'
) -> dict:
    """Read a checkpoint of PyTorch or safetensors; run no code of its own.

    Args:
        path: A local file.
        trust: Unpickle whatever it holds, which can run any code.
        map_location: As in :func:`torch.load`.

    Returns:
        The checkpoint, or, if the file has no more, its state dict.

    Raises:
        FileNotFoundError: It does not exist.
        CheckpointError: It is no checkpoint, is damaged, or is refused.
    """
    path = osp.expanduser(str(path))
    check_checkpoint(path)
    if identify(path)[0] == 'safetensors':
        return _load_safetensors(path, map_location)
    try:
        content = unpickle(path, trust, map_location)
    except _RefusedError as error:
        raise CheckpointError(
            f'{path} was not loaded, since it is no plain checkpoint: it '
            f'asks for {error}, and a pickle that does can run any code.\n'
            '  - if you trust its source, pass --trust-checkpoint; else ask '
            'for its state dict alone'
        ) from None
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        if 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' in str(error) or trust:
            raise
        reason = str(error).strip().split('\n')[0]
        raise CheckpointError(
            f'{path} is damaged or cut off ({reason}).\n'
            '  - copy it again, or take an older one of its folder'
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f'{path} holds a {type(content).__name__}, no state dict: save '
            "dict(state_dict=model.state_dict()) with the library's own model"
        )
    return content


def unpickle(
    source: str | BinaryIO, trust: bool = False, map_location: Any = 'cpu'
) -> Any:
    """``torch.load`` of a file or a buffer, see :func:`safe_load`."""
    return torch.load(
        source,
        map_location=map_location,
        pickle_module=None if trust else _PICKLE,
        weights_only=False,
    )


def _load_safetensors(path: str, map_location: Any) -> dict:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ImportError(
            f'{path} is a safetensors file: pip install safetensors'
        ) from None
    state = load_file(path)
    if isinstance(map_location, str | torch.device):
        state = {key: value.to(map_location) for key, value in state.items()}
    return state


class _RefusedError(Exception):
    """Something that no genuine checkpoint holds; says what."""


class _Unpickler(pickle._Unpickler):  # the one in Python can be restricted
    """Builds what is on the list, and nothing else.

    Real functions and classes are also kept from being changed by
    ``BUILD``, which sets attributes of anything.
    """

    dispatch = pickle._Unpickler.dispatch.copy()

    def find_class(self, module: str, name: str) -> Any:
        """Look up a name of the pickle."""
        full = f'{module}.{name}'.replace('__builtin__.', 'builtins.')
        full = full.replace('numpy._core.', 'numpy.core.')  # NumPy 2
        if full in _ALLOWED:
            return _ALLOWED[full]
        if module == 'torch':
            found = getattr(torch, name, None)
            if isinstance(found, torch.dtype | torch.layout):
                return found
            if name.endswith('Storage') and isinstance(found, type):
                return found
        raise _RefusedError(full)

    def load_build(self) -> None:
        """Set the state of an object, but not of a function or a class."""
        if callable(self.stack[-2]):
            raise _RefusedError('a change of a function or a class')
        super().load_build()

    dispatch[pickle.BUILD[0]] = load_build

    def load_extension(self) -> None:
        """Refuse codes of the process's own registry."""
        raise _RefusedError('a registered extension')

    for _code in (pickle.EXT1, pickle.EXT2, pickle.EXT4):
        dispatch[_code[0]] = load_extension


def _load(file: BinaryIO, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# what torch.load wants of a module like pickle
_PICKLE = SimpleNamespace(
    __name__='mmfgl.safe_pickle', Unpickler=_Unpickler, load=_load
)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes are pickled as text by protocol 2."""
    if encoding != 'latin1':
        raise _RefusedError(f'the encoding {encoding}')
    return text.encode(encoding)


_ONE_CYCLE = 'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler'
_METHODS = {  # that objects refer to, as pickled by protocol 2
    (HistoryBuffer, name): vars(HistoryBuffer)[name]
    for name in ('min', 'max', 'current', 'mean')
} | {
    (_ONE_CYCLE, name): getattr(OneCycleParamScheduler, name)
    for name in ('_annealing_cos', '_annealing_linear')
}


def _getattr(owner: Any, name: str) -> Callable:
    try:
        return _METHODS[owner, name]
    except (KeyError, TypeError):
        raise _RefusedError(f'the attribute {name}') from None


_ALLOWED = {
    'builtins.getattr': _getattr,
    'builtins.slice': slice,
    'builtins.set': set,
    'builtins.frozenset': frozenset,
    'builtins.complex': complex,
    'builtins.bytearray': bytearray,
    **{f'builtins.{t.__name__}': t for t in (int, float, list, dict, str)},
    'builtins.long': int,  # as protocol 2 calls them
    'builtins.unicode': str,
    '_codecs.encode': _encode,
    'argparse.Namespace': argparse.Namespace,  # of DINO, MAE, DETR
    'collections.Counter': collections.Counter,
    'collections.OrderedDict': collections.OrderedDict,
    'collections.defaultdict': collections.defaultdict,
    'mmengine.config.config.ConfigDict': ConfigDict,
    'mmengine.logging.history_buffer.HistoryBuffer': HistoryBuffer,
    _ONE_CYCLE: _ONE_CYCLE,  # its name: the class itself is not needed
    'numpy.dtype': np.dtype,
    'numpy.ndarray': np.ndarray,
    # by their pickles, since NumPy 2 has renamed their module
    'numpy.core.multiarray._reconstruct': np.empty(0).__reduce__()[0],
    'numpy.core.multiarray.scalar': np.float32(0).__reduce__()[0],
    'torch.Size': torch.Size,
    'torch.Tensor': torch.Tensor,
    'torch.device': torch.device,
    'torch.nn.parameter.Parameter': torch.nn.Parameter,
    'torch.serialization._get_layout': torch.serialization._get_layout,
    'torch.storage.UntypedStorage': torch.UntypedStorage,
    'torch.storage.TypedStorage': torch.storage.TypedStorage,
    **{
        f'torch._utils.{name}': getattr(torch._utils, name)
        for name in (
            '_rebuild_parameter',
            '_rebuild_sparse_tensor',
            '_rebuild_tensor',
            '_rebuild_tensor_v2',
            '_rebuild_tensor_v3',
        )
        if hasattr(torch._utils, name)
    },
}
