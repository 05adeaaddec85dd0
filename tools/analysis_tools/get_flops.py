#!/usr/bin/env python
"""Count parameters and FLOPs of detection and pretraining configs.

    python tools/analysis_tools/get_flops.py CONFIG ... [--shape 800 1333]

Needs no data set. A detector is counted at test time on one image of that
size, a pretraining by the student's backbone and neck on one view.

FLOPs are counted as MMDetection's and MMPretrain's get_flops.py do, by
MMEngine's counter: convolutions, linear layers and products of matrices, a
multiply-add as ONE operation. Not counted are the two products inside an
attention (its projections are), normalisation, elementwise operations,
RoIAlign and NMS.
"""

import argparse
from functools import partial
from pathlib import Path

import mmdet.models  # noqa: F401
import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import nn

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.reports import markdown_table
from mmfgl.testing import detection_batch
from mmfgl.utils.audit.uses import parts_of
from mmfgl.utils.user_errors import add_debug_argument, user_errors

# weights that a model reads or downloads while it is built
OPENED = ('pretrained', 'checkpoint_path', 'teacher_ckpt')


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('configs', nargs='+', help='config files')
    parser.add_argument(
        '--shape', type=int, nargs='+', default=[800, 1333], help='in pixels'
    )
    add_debug_argument(parser)
    args = parser.parse_args()
    if len(args.shape) > 2 or min(args.shape) < 1:
        parser.error('--shape takes HEIGHT WIDTH, or one side')
    return args


def build(path: str) -> nn.Module:
    """Build the model of a config, with random weights."""
    cfg = Config.fromfile(path)
    for part in parts_of(cfg.model):
        for key in OPENED:
            if part.get(key):
                part[key] = False if part[key] is True else None
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    return revert_sync_batchnorm(MODELS.build(cfg.model)).eval()


def measure(model: nn.Module, shape: tuple[int, int]) -> dict[str, float]:
    """Count ``params``, those ``frozen``, and ``flops`` at (height, width)."""
    inputs = torch.zeros(1, 3, *shape)
    if hasattr(model, 'predict'):
        batch = detection_batch([shape], num_boxes=0)
        data = model.data_preprocessor(batch, False)
        inputs, samples = data['inputs'], data['data_samples']
        model.forward = partial(model.forward, data_samples=samples)
    else:
        model.forward = model.extract_feat
    counter = FlopAnalyzer(model, inputs).unsupported_ops_warnings(False)
    flops = counter.uncalled_modules_warnings(False).total()
    # a teacher is no part of what is trained
    params = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters()) - params
    return dict(params=params, frozen=frozen, flops=flops)


def count(args: argparse.Namespace) -> None:
    """Print one row a config."""
    shape = (args.shape[0], args.shape[-1])
    rows = []
    for path in args.configs:
        if not Path(path).is_file():
            raise FileNotFoundError(f'no such file: {path}')
        seen = measure(build(path), shape)
        cells = [seen['params'] / 1e6, seen['frozen'] / 1e6]
        rows.append([Path(path).stem, *cells, seen['flops'] / 1e9])
    header = [f'config, {shape[0]}x{shape[1]}', 'parameters, M', 'frozen, M']
    print(
        markdown_table([*header, 'FLOPs (multiply-adds), G'], rows, digits=2)
    )


def main() -> None:
    """Count, see the module's docstring."""
    args = parse_args()
    with user_errors(args.debug):
        count(args)


if __name__ == '__main__':
    main()
