"""A GPU that is not there: device errors and synchronisations without one.

:class:`PretendGPU` runs on the CPU with real values, so that all decisions
that depend on them are those of a real run. (PyTorch's ``FakeTensorMode`` has
no values: it cannot pass a sampler or an NMS.)
"""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmcv.ops.nms import ext_module
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device('cuda', 0)
PACKAGE = Path(__file__).parents[1]
PARENTS = ('mmcv', 'mmdet', 'mmengine', 'mmpretrain')

# What the host waits for on a GPU, and how often.
_WAITS = {
    '_local_scalar_dense': 1,  # item, bool, int, float
    'nonzero': 1,
    'masked_select': 1,
    'bincount': 2,  # least and largest value
    'equal': 1,
    '_unique2': 1,
    'unique_dim': 1,
    'unique_consecutive': 1,
    'repeat_interleave': 1,  # by a tensor
}
_MAKE_FROM_HOST = ('tensor', 'as_tensor', 'new_tensor')
_TO_HOST = ('tolist',)
# may mix devices, by copying
_MIXES = ('__getitem__', '__setitem__', 'copy_')
# asks about two tensors, computes nothing
_ASKS = ('_has_compatible_shallow_copy_type',)
# Whether a function mode sees indexing; PyTorch 2.1 shows it none.
_SHOWS_INDEXING = torch.torch_version.TorchVersion(torch.__version__) >= (2, 2)


class PretendGPU(TorchFunctionMode):
    """Tensors know that they are on a GPU; the CPU computes with them.

    Inside the context, ``model.to('cuda')`` and ``device='cuda'`` work, and
    what comes of such tensors is on the GPU again. A function that is given
    tensors of both devices raises, as it would on a GPU. Counted are, by
    place in the code,

    - :attr:`waits`: operations whose result the host needs before it can go
      on: reading values, boolean indexing, ``nonzero``, ...;
    - :attr:`uploads`: values that go to the GPU by a blocking copy.

    The place is the innermost line of mmfgl, or of a parent. In the backward
    pass devices are not checked; boolean indices count where they were made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self._depth = 0  # functions running on the device
        self._masks: dict[int, tuple[Tensor, str]] = {}

    def __enter__(self) -> 'PretendGPU':
        self._stack = ExitStack()
        nms = self._operator(ext_module.nms)
        self._stack.enter_context(patch.object(ext_module, 'nms', nms))
        self._stack.enter_context(_Operators(self))
        # a class that such a method was put into and taken from is a sequence
        # ever after, to torch.tensor([tensor]) too: so only where needed
        if not _SHOWS_INDEXING:
            for name in ('__getitem__', '__setitem__'):
                run = self._indexing(getattr(Tensor, name))
                self._stack.enter_context(patch.object(Tensor, name, run))
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._stack.close()

    def clear(self) -> None:
        """Count from zero."""
        for counts in (self.waits, self.uploads, self._masks):
            counts.clear()

    def __torch_function__(
        self,
        func: Callable,
        types: tuple,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        """Run a function of torch as a GPU would."""
        kwargs = dict(kwargs or {})
        name = getattr(func, '__name__', '')
        if name in ('backward', 'grad') and callable(func):
            return self._backward(func, args, kwargs)
        tensors = list(_tensors((args, kwargs)))
        if name == '__deepcopy__':
            tensors = [args[0]]  # not those that were copied before
        here = any(map(on_gpu, tensors))
        owner = getattr(func, '__self__', None)  # of a property
        if name == '__get__':
            return self._get(func, owner, args, kwargs)
        if name == '__set__':
            func(*args, **kwargs)
            if owner is Tensor.data:
                _mark(args[0], on_gpu(args[1]))
            return None
        if name in ('get_device', 'is_pinned') and here:
            return 0 if name == 'get_device' else False
        if here:
            _check(name, args, tensors)
        if name in ('to', 'cuda', 'cpu', 'type_as'):
            func = Tensor.to
            args, kwargs, target = self._move(name, args, kwargs)
        else:
            target = here
            if (device := kwargs.pop('device', None)) is not None:
                target = torch.device(device).type == 'cuda'
            self._count_transfers(name, tensors, target)
            target &= name not in _TO_HOST
        self._depth += here
        try:
            out = func(*args, **kwargs)
        finally:
            self._depth -= here
        for tensor in _tensors(out):
            _mark(tensor, target)
        return out

    def _count_transfers(
        self, name: str, tensors: list[Tensor], target: bool
    ) -> None:
        """Count what a function copies between the devices by itself."""
        here = any(map(on_gpu, tensors))
        if name in _MAKE_FROM_HOST and target:
            # as_tensor of what is there already copies nothing
            if name == 'new_tensor' or not here:
                self._count(self.uploads)
        elif here and name in _TO_HOST:
            self._count(self.waits)
        elif here and name in _MIXES and not all(map(on_gpu, tensors)):
            self._count(self.uploads)

    def _get(
        self, func: Callable, owner: Any, args: tuple, kwargs: dict
    ) -> Any:
        """Read a property of a tensor."""
        tensor = args[0]
        if on_gpu(tensor):
            if owner is Tensor.device:
                return DEVICE
            if owner is Tensor.is_cuda:
                return True
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and on_gpu(tensor):
            _mark(out, True)
        return out

    def _move(
        self, name: str, args: tuple, kwargs: dict
    ) -> tuple[tuple, dict, bool]:
        """Move a tensor between the devices."""
        tensor = args[0]
        source = target = on_gpu(tensor)
        flags = [arg for arg in args[1:] if isinstance(arg, bool)]
        kwargs.update(zip(('non_blocking', 'copy'), flags))
        if name in ('cuda', 'cpu'):
            target = name == 'cuda'
        for arg in (*args[1:], kwargs.pop('device', None)):
            if isinstance(arg, Tensor):
                target = on_gpu(arg)
                kwargs['dtype'] = arg.dtype
            elif isinstance(arg, str | torch.device):
                target = torch.device(arg).type == 'cuda'
            elif isinstance(arg, torch.dtype):
                kwargs['dtype'] = arg
        if source and not target:
            self._count(self.waits)
        if target and not source and not kwargs.get('non_blocking'):
            self._count(self.uploads)
        if source != target:
            kwargs['copy'] = True
        return (tensor,), kwargs, target

    def _backward(self, func: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a backward pass; gradients lie where their tensors do."""
        self._depth += 1
        try:
            with torch._C.DisableTorchFunction():
                return func(*args, **kwargs)
        finally:
            self._depth -= 1

    def _operator(self, func: Callable) -> Callable:
        """An operator of mmcv, whose results lie where its arguments do."""

        def run(*args: Any, **kwargs: Any) -> Any:
            here = any(on_gpu(x) for x in _tensors((args, kwargs)))
            out = func(*args, **kwargs)
            if here:
                self._count(self.waits)
                for tensor in _tensors(out):
                    _mark(tensor, True)
            return out

        return run

    def _indexing(self, func: Callable) -> Callable:
        """Indexing, which PyTorch 2.1 does not show to a function mode."""

        def run(*args: Any) -> Any:
            with torch._C.DisableTorchFunction():
                return self.__torch_function__(func, (), args)

        return functools.wraps(func)(run)

    def _count(self, counts: Counter[str], number: int = 1) -> None:
        counts[place()] += number

    def count_operator(self, name: str, args: tuple) -> None:
        """Count an operator of ATen that runs on the device."""
        if not self._depth:
            return
        if name in _WAITS:
            self._count(self.waits, _WAITS[name])
        if name not in ('index', 'index_put', 'index_put_'):
            return
        if name != 'index' and args[2].dim() == 0:
            return  # masked_fill
        for index in args[1]:
            if index is None or index.dtype not in (torch.bool, torch.uint8):
                continue
            known = self._masks.setdefault(id(index), (index, place()))
            self.waits[known[1]] += 1


class _Operators(TorchDispatchMode):
    """Hands the operators below PyTorch's functions to a PretendGPU."""

    def __init__(self, gpu: PretendGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(
        self,
        func: Callable,
        types: tuple,
        args: tuple = (),
        kwargs: dict | None = None,
    ) -> Any:
        self.gpu.count_operator(func._schema.name.split('::')[1], args)
        with torch._C.DisableTorchFunction():
            return func(*args, **(kwargs or {}))


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor lies on the pretended GPU."""
    return '_pretend_gpu' in tensor.__dict__


def place() -> str:
    """The innermost line of mmfgl or a parent that is running."""
    frame = sys._getframe()
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        parts = path.parts
        line = f'{path.name}:{frame.f_lineno} {frame.f_code.co_name}'
        if path.is_relative_to(PACKAGE):
            inner = path.relative_to(PACKAGE)
            if inner.parts[0] != 'testing':
                return f'mmfgl {line}'
        elif 'site-packages' in parts:
            package = parts[parts.index('site-packages') + 1]
            if package in PARENTS:
                return f'{package} {line}'
        frame = frame.f_back
    return 'other'


def _mark(tensor: Tensor, here: bool) -> None:
    if here:
        tensor.__dict__['_pretend_gpu'] = True
    else:
        tensor.__dict__.pop('_pretend_gpu', None)


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _check(name: str, args: tuple, tensors: list[Tensor]) -> None:
    """Raise for tensors on both devices, as a GPU would."""
    if name in ('numpy', '__array__'):
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy: use .cpu()"
        )
    others = [t for t in tensors if not on_gpu(t)]
    if name not in ('cat', 'stack'):
        others = [t for t in others if t.dim()]
    if name in _MIXES and on_gpu(args[0]):
        return
    if name in ('copy_', 'to', 'type_as', *_ASKS):
        return
    if others:
        raise RuntimeError(
            f'{name}: expected all tensors to be on the same device, but '
            f'found {len(tensors) - len(others)} on {DEVICE} and '
            f'{len(others)} on the cpu, at {place()}'
        )
