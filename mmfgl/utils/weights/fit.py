"""How the keys of a checkpoint differ from those of a module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Rules = Sequence[tuple[str, str]]

_VIT: Rules = (
    (r'^blocks\.', 'layers.'),
    (r'^norm\.', 'ln1.'),
    (r'\.norm(\d)\.', r'.ln\1.'),
    (r'\.mlp\.fc1\.', '.ffn.layers.0.0.'),
    (r'\.mlp\.fc2\.', '.ffn.layers.1.'),
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
)
_DETECTRON2: Rules = (
    (r'^stem\.conv1\.norm\.', 'bn1.'),
    (r'^stem\.conv1\.', 'conv1.'),
    *((rf'^res{stage}\.', f'layer{stage - 1}.') for stage in (2, 3, 4, 5)),
    (r'\.shortcut\.norm\.', '.downsample.1.'),
    (r'\.shortcut\.', '.downsample.0.'),
    (r'\.conv(\d)\.norm\.', r'.bn\1.'),
)
_SEQUENTIAL: Rules = (
    (r'^0\.', 'conv1.'),
    (r'^1\.', 'bn1.'),
    *((rf'^{stage + 3}\.', f'layer{stage}.') for stage in (1, 2, 3, 4)),
)
# whose names, and what makes the parents' names of them
FAMILIES: dict[str, Rules] = {
    '': (),
    'a ResNet as a numbered Sequential (Lightly)': _SEQUENTIAL,
    "timm's vision Transformer (DINO, MAE)": _VIT,
    "timm's classifier": ((r'^(stages|layers|stem)\.(\d+)\.', r'\1_\2.'),),
    "Detectron2's ResNet": _DETECTRON2,
}


_OPTIONAL = re.compile(
    r'num_batches_tracked$|relative_position_index$|\.conv_offset\.|^norm\d\.'
)


_TELLING = 5  # fewer names, as weight and bias, are found in any network


@dataclass(frozen=True)
class Fit:
    """A change of keys after which a module is filled.

    Attributes:
        inside: Key of the checkpoint that holds the state dict, if it is none
            that MMEngine looks into.
        strip: Prefix that the checkpoint's keys have.
        add: Prefix that they lack.
        family: Whose names they are, if others than the module's.
        reshaped: Number of tensors that then have another shape.
    """

    inside: str
    strip: str
    add: str
    family: str
    reshaped: int

    def revise_keys(self, module: str = '') -> str:
        """``revise_keys`` of CheckpointChainHook that makes the change."""
        target = f'{module}.{self.add}' if module else self.add
        strip = self.strip.removeprefix('module.')  # which the hook strips
        pattern = '^' + re.escape(strip)
        rules = FAMILIES[self.family]
        if not rules:
            return f"[(r'{pattern}', '{target}')]"
        pairs = [(pattern, '')] if strip else []
        pairs += [*rules, ('^', target)]
        listed = ', '.join(f"(r'{old}', r'{new}')" for old, new in pairs)
        return f'[{listed}]'


def tensors_of(checkpoint: Mapping, inside: str = '') -> dict[str, Tensor]:
    """The state dict of a checkpoint, as MMEngine finds it."""
    state = checkpoint.get(inside or 'state_dict', checkpoint)
    return {k: v for k, v in state.items() if isinstance(v, Tensor)}


def needed(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of a module that a checkpoint must have.

    MMEngine does not miss counters of BatchNorm; Swin computes its index;
    offsets of a deformable convolution start at zero, as a plain one's, and a
    backbone's own ``norm0`` to ``norm3``, which only detectors have, at one.
    """
    return {k: v for k, v in own.items() if not _OPTIONAL.search(k)}


def find_fits(own: Mapping[str, Tensor], checkpoint: Mapping) -> list[Fit]:
    """All changes of prefix or of names that fill a module, best first.

    Args:
        own: State dict of the module.
        checkpoint: What was read from a file.
    """
    wanted = needed(own)
    if not wanted:
        return []
    common = _common_prefix(wanted)
    fits = []
    for inside in _places(checkpoint):
        state = tensors_of(checkpoint, inside)
        for strip in _prefixes(state, len(wanted)):
            part = {
                key[len(strip) :]: value
                for key, value in state.items()
                if key.startswith(strip)
            }
            for family, rules in FAMILIES.items():
                renamed = {revise(k, rules): v for k, v in part.items()}
                for add in {'', common}:
                    found = [renamed.get(k[len(add) :]) for k in wanted]
                    if any(value is None for value in found):
                        continue
                    pairs = zip(found, wanted.values(), strict=True)
                    other = sum(a.shape != b.shape for a, b in pairs)
                    if other == len(wanted) < _TELLING:
                        continue
                    fits.append(Fit(inside, strip, add, family, other))
    # MMEngine strips `module.` by itself, and of two prefixes of one state
    # the shorter one (`student.`, `teacher.`) is told first
    return sorted(
        fits, key=lambda f: (f.reshaped, bool(f.family), bool(f.add), f.strip)
    )


def revise(key: str, rules: Rules) -> str:
    """A key with regular expressions replaced one after another."""
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _places(checkpoint: Mapping) -> Iterator[str]:
    """Where a state dict may be: where MMEngine looks, else one below."""
    yield ''
    if 'state_dict' not in checkpoint and not tensors_of(checkpoint):
        for name, value in checkpoint.items():
            if isinstance(value, Mapping) and tensors_of(value):
                yield name


def _prefixes(state: Mapping[str, Tensor], count: int) -> list[str]:
    """Dotted prefixes that at least so many keys have, the empty one too."""
    numbers: dict[str, int] = {'': len(state)}
    for key in state:
        for match in re.finditer(r'\.', key):
            prefix = key[: match.end()]
            numbers[prefix] = numbers.get(prefix, 0) + 1
    return [prefix for prefix, number in numbers.items() if number >= count]


def _common_prefix(own: Mapping[str, Tensor]) -> str:
    """Dotted prefix of all keys of a module, as ``timm_model.``."""
    first, *others = own
    parts = first.split('.')[:-1]
    while parts:
        prefix = '.'.join(parts) + '.'
        if all(key.startswith(prefix) for key in others):
            return prefix
        parts.pop()
    return ''
