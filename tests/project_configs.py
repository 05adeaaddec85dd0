"""Lists of the project's config files, and how tests read them."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from mmfgl.testing.configs import read_config

ROOT = Path(__file__).resolve().parents[1] / 'configs'
FILES = sorted(ROOT.rglob('*.py'))
BASES = [p for p in FILES if '_base_' in p.parts]
PATHS = [p for p in FILES if p not in BASES]
DETECTORS = [p for p in PATHS if p.parent.name == 'fgl_faster_rcnn']
PLAIN = [p for p in DETECTORS if 'fgl-' not in p.stem]
# arms of a benchmark, which sets their data and their length
ARMS = [p for p in PATHS if p.parent.name == 'transfer']
RUNS = [p for p in PATHS if p not in ARMS]


def parametrize(paths):
    return pytest.mark.parametrize('path', paths, ids=lambda p: p.stem)


@functools.cache
def read_once(path):
    return read_config(path)


def read(path):
    return copy.deepcopy(read_once(path))


def scope_of(cfg):
    return DefaultScope.overwrite_default_scope(cfg.default_scope)


def build_on_meta(cfg):
    """A config's model, without memory behind the tensors."""
    with scope_of(cfg), torch.device('meta'):
        return MODELS.build(copy.deepcopy(cfg.model))


@functools.cache
def on_meta(path):
    """The model of a config file, as it is, on the meta device."""
    return build_on_meta(read_once(path))


def types_of(cfg):
    return {hook.type.removeprefix('mmfgl.') for hook in cfg.custom_hooks}


def length_of(cfg):
    return cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
