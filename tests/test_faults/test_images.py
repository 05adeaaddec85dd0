"""Images and lists of images that are not as they should be."""

import os
import re
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mmfgl.testing import tiny_coco
from tools.benchmarks.faults_runs import detection, pretraining

pytestmark = pytest.mark.faults


@pytest.fixture
def data(tmp_path):
    """A tiny data set that a test may damage."""
    return tiny_coco(tmp_path / 'data', num_images=6, num_unlabelled=9)


def odd_images(folder):
    """Images that can be used, and (name, reason) of those that cannot."""
    good = sorted(folder.iterdir())[0]
    content = good.read_bytes()
    pixels = np.asarray(Image.open(good))

    def encoded(kind, image, **options):
        file = BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    exif, grey = Image.Exif(), Image.fromarray(pixels[..., 0])
    exif[0x0112] = 99
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 16)
    real = Image.fromarray(pixels[..., 0].astype(np.float32))
    image = Image.fromarray(pixels)
    huge = Image.new('1', (30000, 30000))
    files = {
        'exif.jpg': encoded('JPEG', image, exif=exif),
        'png.jpg': encoded('PNG', image),
        'cmyk.jpg': encoded('JPEG', image.convert('CMYK')),
        'deep.png': encoded('PNG', deep),
        'real.tif': encoded('TIFF', real),
        'moving.webp': encoded('WEBP', image, save_all=True),
        'moving.gif': encoded('GIF', image.convert('P'), save_all=True),
        'pixel.png': encoded('PNG', Image.new('L', (1, 1))),
        'long.png': encoded('PNG', grey.resize((40000, 2))),
        'half.jpg': content[: len(content) // 2],
        'empty.jpg': b'',
        'text.jpg': b'<html>404</html>',
        'huge.png': encoded('PNG', huge),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return {
        'half.jpg': 'damaged or cut off',
        'empty.jpg': 'the file is empty',
        'text.jpg': 'no image, or a damaged one',
        'huge.png': '30000 x 30000 pixels, more than max_pixels=',
    }


@pytest.mark.parametrize('lazy', [False, True])
def test_odd_images(bench, data, lazy):
    """Odd, damaged and huge images: what is sound is used, others named."""
    folder = data / 'unlabelled'
    bad = odd_images(folder)
    cfg = pretraining(data, iters=20, interval=20)
    cfg.train_dataloader.dataset.pipeline[0]['lazy'] = lazy
    code, output = bench.run(cfg, 'run')
    seen = re.findall(r'skipped unreadable image (\S+): (.*)', output)
    seen = {os.path.basename(path): reason for path, reason in seen}
    bench.seen(seen)
    assert code == 0, output[-2000:]
    assert seen.keys() == bad.keys()
    assert all(seen[name].startswith(bad[name]) for name in bad)
    assert '4 unreadable images were skipped and replaced' in output


def test_name_that_is_no_text(bench, data):
    """Corrupt image, its name no UTF-8: escaped in messages and summary."""
    path = os.path.join(os.fsencode(data / 'unlabelled'), b'img\xe9.jpg')
    with open(path, 'wb') as file:
        file.write(b'x')
    result = bench.run(pretraining(data, iters=10, interval=10), 'run')
    assert 'Logging error' not in result[1]
    bench.ends(result, r'1 unreadable images were skipped.*img\\udce9[.]jpg')


@pytest.mark.parametrize('kind', ['txt', 'json'])
def test_addresses(bench, data, kind):
    """Addresses (s3://) in a list or COCO JSON: an error says what to do."""
    path = data / f'list.{kind}'
    path.write_text(
        'a.jpg\ns3://bucket/b.jpg\n'
        if kind == 'txt'
        else '{"images": [{"id": 1, "file_name": "s3://bucket/b.jpg"}]}'
    )
    cfg = pretraining(data)
    cfg.train_dataloader.dataset.ann_file = str(path)
    words = 's3://bucket/b.jpg', 'must hold paths', 'download the images'
    bench.stops(bench.run(cfg, 'run'), *words)


def test_corrupt_train_image(bench, data):
    """One train image of a detector is corrupt: it is replaced and named."""
    path = sorted((data / 'train').iterdir())[1]
    path.write_bytes(path.read_bytes()[:700])
    name = re.escape(path.name)
    result = bench.run(detection(data, iters=8, interval=8), 'run')
    assert f'{path.name}: ' in result[1]
    bench.ends(result, rf'1 unreadable images were skipped and.*{name}')


def test_corrupt_test_image(bench, data):
    """One test image is corrupt: evaluated as without detections, named."""
    cfg = detection(data)
    checkpoint = bench.trained(cfg)
    path = sorted((data / 'val').iterdir())[1]
    path.write_bytes(b'')
    result = bench.run(cfg, 'test', checkpoint, tool='test.py')
    assert 'coco/bbox_mAP' in result[1]
    pattern = rf'1 unreadable images were evaluated as.*{re.escape(path.name)}'
    bench.ends(result, pattern)
