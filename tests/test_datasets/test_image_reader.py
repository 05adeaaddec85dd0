"""The one reader: what it reads, what it refuses, and with which words."""

import os
import pickle
import random
import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from mmfgl.datasets import pixel_depth
from mmfgl.datasets.image_reader import (
    EncodedImage,
    UnreadableImageError,
    decode_image,
    decode_reduced,
    read_image,
)

RGB = np.zeros((40, 61, 3), np.uint8)
RGB[:, :30] = 200, 50, 20
RGB[:20] //= 2
IMAGE = Image.fromarray(RGB)


def encode(kind, image=IMAGE, **options):
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_segment(payload):
    """A JPEG with an APP1 segment."""
    data = encode('JPEG')
    head = b'\xff\xe1' + struct.pack('>H', len(payload) + 2)
    return data[:2] + head + payload + data[2:]


def png_of(width, height):
    """A PNG whose header claims a size."""

    def chunk(kind, content):
        check = struct.pack('>I', zlib.crc32(kind + content))
        return struct.pack('>I', len(content)) + kind + content + check

    size = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = (
        (b'IHDR', size),
        (b'IDAT', zlib.compress(bytes(99))),
        (b'IEND', b''),
    )
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_turned_as_opencv_does(kind):
    for turn in (*range(10), 99):  # 0, 9 and 99 mean nothing
        exif = Image.Exif()
        exif[0x0112] = turn
        data = encode(kind, exif=exif)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), 1)
        np.testing.assert_array_equal(decode_image(data), expected)


@pytest.mark.parametrize(
    'payload',
    [
        b'Exif\0\0this is text',
        b'Exif\0\0II*\0\xff\xff\xff\xff',
        # orientation '6' as text
        b'Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\x006\0\0\0' * 2,
        b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>',
    ],
)
def test_odd_exif_and_xmp_do_not_turn(payload):
    data = with_segment(payload)
    assert decode_image(data).shape == (40, 61, 3)
    lazy = decode_image(data, lazy=True)
    assert lazy.shape == (40, 61)
    assert lazy.decode(2)[0].shape == (20, 31, 3)


@pytest.mark.parametrize('kind', ['PNG', 'TIFF', 'BMP', 'GIF', 'WEBP'])
def test_kinds_and_modes(kind):
    options = dict(lossless=True) if kind == 'WEBP' else {}
    modes = 'RGB', 'L', '1', 'P', 'RGBA', 'LA', 'CMYK'
    for mode in modes[: 4 if kind == 'GIF' else None]:
        try:
            data = encode(kind, IMAGE.convert(mode), **options)
        except OSError:  # the format has no such mode
            continue
        found = decode_image(data)
        expected = IMAGE.convert(mode).convert('RGB')
        error = found[..., ::-1].astype(int) - np.asarray(expected)
        assert np.abs(error).mean() < 4, mode  # palettes of GIF
        assert found.dtype == np.uint8 and found.flags.c_contiguous


@pytest.mark.parametrize('kind', ['GIF', 'WEBP', 'PNG'])
def test_first_frame_of_an_animation(kind):
    more = [Image.fromarray(255 - RGB)]
    data = encode(kind, save_all=True, append_images=more)
    error = decode_image(data)[..., ::-1].astype(int) - RGB
    assert np.abs(error).mean() < 4


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize(
    ('dtype', 'values', 'expected'),
    [
        (np.uint16, (0, 4095), (0, 255)),  # 12 bits
        (np.uint16, (0, 1023), (0, 255)),
        (np.uint16, (256, 65535), (1, 255)),
        (np.int16, (-100, 4000), (0, 255)),
        (np.float32, (0, 1), (0, 255)),
        (np.float64, (0, 255), (0, 255)),
        (np.float32, (-5, 9000), (0, 255)),
        (np.float32, (0, 0), (0, 0)),
    ],
)
def test_more_than_eight_bits(channels, dtype, values, expected):
    img = np.full((20, 30, channels), values[0], dtype)
    img[:10] = values[1]
    plain = [cv2.IMWRITE_TIFF_COMPRESSION, 1]
    data = cv2.imencode('.tiff', img, plain)[1].tobytes()
    found = decode_image(data)
    assert found.shape == (20, 30, 3) and found.dtype == np.uint8
    assert (found[-1] == expected[0]).all() and (found[0] == expected[1]).all()


def test_scaling_is_reported_once_and_another_once(monkeypatch):
    lines = []
    monkeypatch.setattr(pixel_depth, '_scales', [])
    monkeypatch.setattr(
        pixel_depth, 'print_log', lambda text, **_: lines.append(text)
    )

    def decode(value):
        img = np.full((9, 9), value, np.uint16)
        data = cv2.imencode('.png', img)[1].tobytes()
        return decode_image(data, path='a\udce9.png').max()

    assert [decode(4000), decode(4001)] == [250, 250]
    (line,) = lines
    expected = 'a\\udce9.png: values from 0 to 4000, taken as 12 bits;'
    assert line.startswith(expected)
    # of one camera, but its brightest pixel needs another bit
    assert [decode(4200), decode(900)] == [65, 225]
    assert len(lines) == 2
    assert '14 bits, where others were taken as 12 bits: ' in lines[1]
    # all 16 bits are nothing to tell
    monkeypatch.setattr(pixel_depth, '_scales', [])
    assert [decode(60000), len(lines)] == [234, 2]


def test_single_pixels_and_long_sides():
    for size in ((1, 1), (40000, 1), (2, 40000)):
        for kind in ('JPEG', 'PNG'):
            data = encode(kind, Image.new('L', size, 77))
            assert decode_image(data).shape == (*size[::-1], 3)


def test_pixels_are_limited_before_decoding():
    for size in ((60000, 60000), (30000, 30000)):
        words = f'x.png: {size[0]} x {size[1]} pixels, more than max_pixels='
        with pytest.raises(UnreadableImageError, match=words):
            decode_image(png_of(*size), path='x.png')
    data, few = encode('JPEG'), 40 * 61 // 3
    with pytest.raises(UnreadableImageError, match='61 x 40 pixels'):
        decode_image(data, max_pixels=few)
    image = decode_image(data, lazy=True, max_pixels=few)
    assert image.shape == (40, 61) and image.least == 2
    small, affine = image.decode()
    assert small.shape == (20, 31, 3)
    assert affine[0, 0] == affine[1, 1] == 2
    for options in ({}, dict(progressive=True)):
        with pytest.raises(UnreadableImageError, match='more than'):
            EncodedImage(encode('JPEG', **options), 20 if not options else few)
    assert decode_reduced(data)[1] == (40, 61)


def test_pillows_limit_does_not_count(monkeypatch):
    data = encode('JPEG')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)  # 179 megapixels
    assert decode_image(data, lazy=True).decode()[0].shape == RGB.shape


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'BMP', 'GIF'])
def test_damage_of_all_kinds_is_one_error(kind):
    data, dice = encode(kind), random.Random(0)
    for length in (0, 1, 5, 12, 20, 30, 60, len(data) // 2):
        with pytest.raises(UnreadableImageError, match='x: '):
            decode_image(data[:length], path='x')
    for _ in range(100):  # no other error, whatever is damaged
        spoilt = bytearray(data)
        for _ in range(dice.randint(1, 6)):
            spoilt[dice.randrange(min(len(data), 300))] = dice.randrange(256)
        try:
            found = decode_image(bytes(spoilt), max_pixels=10**5)
            assert found.shape[2] == 3
        except UnreadableImageError as error:
            assert '\n' not in str(error)


def test_no_file(tmp_path):
    (tmp_path / 'x.jpg').mkdir()
    (tmp_path / 'link.jpg').symlink_to(tmp_path / 'nowhere')
    closed = tmp_path / 'closed.jpg'
    closed.write_bytes(encode('JPEG'))
    closed.chmod(0)
    cases = {
        'x.jpg': 'Is a directory',
        'link.jpg': 'No such file',
        'none.jpg': 'No such file',
        'nul\0.jpg': 'null byte',
        'y' * 300: 'too long',
    }
    if os.geteuid():  # root may read all
        cases['closed.jpg'] = 'Permission denied'
    for name, reason in cases.items():
        with pytest.raises(UnreadableImageError, match=reason):
            read_image(f'{tmp_path}/{name}')


def test_names_in_messages_are_printable_and_travel():
    error = UnreadableImageError('gone', 'img\udce9.jpg')
    assert str(error).encode() == b'img\\udce9.jpg: gone'
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.path) == ('gone', 'img\udce9.jpg')


def test_content_counts_not_the_name(tmp_path):
    path = tmp_path / 'x.jpg'
    path.write_bytes(encode('PNG'))
    np.testing.assert_array_equal(read_image(str(path))[..., ::-1], RGB)
