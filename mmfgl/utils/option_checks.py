"""Checks of settings and options that nothing reads: slips of the pen."""

from __future__ import annotations

import difflib
import inspect
import logging
import os.path as osp
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

# Settings: what the Runner takes, and what it, MMEngine's config reader and
# the tools look up beside that.
SETTINGS = {
    *inspect.signature(Runner.__init__).parameters,
    *('amp', 'tta_model', 'tta_pipeline'),
    *('custom_imports', 'runner_type', 'compile'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'sync_bn'),
} - {'self', 'cfg'}
# of MMDetection 2, and read by nobody today
RENAMED = dict(resume_from='load_from=CHECKPOINT and resume=True')


def check_options(cfg: Config, options: Mapping[str, Any] | None) -> None:
    """Refuse settings that nothing reads: those of a misspelt name.

    MMEngine keeps any name of a config, since configs have variables of their
    own. So ``train_cgf=dict(...)`` trains as if it were not there. A name of
    a config file is refused if it is all but that of a setting and no config
    uses it; a name of ``--cfg-options``, if neither the config nor the tools
    know it, or if it is all but that of its neighbours (at any depth).

    Args:
        cfg: The config before the options are merged.
        options: ``--cfg-options``.

    Raises:
        ValueError: Gives the name that was probably meant.
    """
    for name in cfg:
        meant = RENAMED.get(name) or closest(name, SETTINGS)
        if name not in SETTINGS and meant and not _is_used(name, cfg.text):
            raise ValueError(
                f'the config sets {name}, which nothing reads: did you mean '
                f'{meant}?'
            )
    for option in options or {}:
        _check_option(cfg, option)


def _check_option(cfg: Config, option: str) -> None:
    """Follow one dotted name into the config."""
    first = option.split('.')[0]
    if first not in cfg and first not in SETTINGS:
        known = sorted({*cfg, *SETTINGS})
        near = difflib.get_close_matches(first, known, n=1)
        meant = RENAMED.get(first) or ''.join(near)
        hint = f'did you mean {meant}?' if meant else 'see the config file'
        raise ValueError(
            f'--cfg-options {option}: no config sets {first} and nothing '
            f'reads it: {hint}'
        )
    if first in cfg and first not in {*SETTINGS, 'data_root'}:
        print_log(
            f'--cfg-options {option}: {first} is a variable of the config '
            'file. What the file has made of it stays as it was; set that.',
            logger='current',
            level=logging.WARNING,
        )
    node: Any = cfg.get(first)
    for part in option.split('.')[1:]:
        if isinstance(node, list | tuple):
            if not part.isdigit() or int(part) >= len(node):
                return  # MMEngine says so
            node = node[int(part)]
        elif not isinstance(node, Mapping):
            return
        elif part in node:
            node = node[part]
        else:
            meant = closest(part, node)
            if meant:
                raise ValueError(
                    f'--cfg-options {option}: there is no {part}, did you '
                    f'mean {meant}?'
                )
            return


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is a slip of the pen away from, if any.

    One letter more, less or other, two letters exchanged, or, of long names,
    nine tenths of the letters in order. Numbered names are no slips.
    """
    known = [k for k in known if isinstance(k, str) and not k.startswith('_')]
    for other in known:
        start = len(osp.commonprefix([name, other]))
        mine, theirs = name[start:], other[start:]
        end = len(osp.commonprefix([mine[::-1], theirs[::-1]]))
        mine, theirs = (rest[: len(rest) - end] for rest in (mine, theirs))
        swapped = len(mine) == 2 and mine == theirs[::-1]
        single = max(len(mine), len(theirs)) == 1
        numbered = (mine + theirs).isdigit()
        long = min(len(name), len(other)) > 3
        if long and not numbered and (swapped or single):
            return other
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
    digits = re.sub(r'\d', '', name)
    return next((n for n in near if re.sub(r'\d', '', n) != digits), None)


def _is_used(name: str, text: str) -> bool:
    """Whether a config's text reads a variable, not only sets it."""
    pattern = rf'\b{re.escape(name)}\b(?!["\']?\s*[=:](?!=))'
    return re.search(pattern, text) is not None
