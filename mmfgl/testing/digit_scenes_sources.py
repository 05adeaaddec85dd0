"""Sources of the digit scenes: real digits and photographs, offline.

Everything is on disk once scikit-learn and scikit-image are installed: the
8x8 UCI digits of ``load_digits``, the two photographs of scikit-learn, and
the photographs and textures inside the scikit-image wheel (the same files in
0.22 to 0.26).  Nothing is downloaded.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

# Whole pictures are kept apart, so that no background of val is ever seen in
# training. Left out on purpose: pictures with printed or handwritten digits
# (page, text), line art, pictures too small to crop, and pictures whose
# licence scikit-image does not state (moon, motorcycle).
BACKGROUNDS = {
    'train': (
        ('sklearn', 'china.jpg'),
        ('skimage', 'astronaut.png'),
        ('skimage', 'camera.png'),
        ('skimage', 'chelsea.png'),
        ('skimage', 'grass.png'),
        ('skimage', 'gravel.png'),
        ('skimage', 'hubble_deep_field.jpg'),
        ('skimage', 'ihc.png'),
        ('skimage', 'retina.jpg'),
    ),
    'val': (
        ('sklearn', 'flower.jpg'),
        ('skimage', 'brick.png'),
        ('skimage', 'coffee.png'),
        ('skimage', 'coins.png'),
        ('skimage', 'rocket.jpg'),
    ),
}
_FOLDERS = {'sklearn': 'datasets/images', 'skimage': 'data'}
INSTALL_HINT = (
    'digit scenes are composited from data inside scikit-learn and '
    'scikit-image; install both with '
    "`pip install -e '.[quickstart]'` (or `pip install scikit-learn "
    'scikit-image`)'
)
# load_digits keeps the order of the UCI test file, in which the samples of
# one writer (of 13) seem to follow each other: a contiguous tail is mostly by
# writers that training never sees. A random split would leak their hand: an
# SVM on the 8x8 pixels scores 0.99 there, 0.94 here.
NUM_VAL_DIGITS = 400

# README.md of the data set: what it is, provenance, licences.
README = """# Digit scenes

A synthetic composite of real pixels: handwritten digits pasted onto
photographs and textures. {train} train, {val} val and {unlabelled}
unlabelled images of {width} x {height} pixels; 10 classes ('0'..'9',
category ids 1..10). Boxes and masks (run-length encoded) cover the *visible*
pixels of each digit; `area` is the area of the box, so that AP by object
size is AP by box size. Made by `tools/dataset_converters/digit_scenes.py`
with seed {seed}; `settings.json` holds every setting and a digest of the
files.

val shares neither digits nor background pictures with train and unlabelled.
The val digits are the last 400 of a file in which the samples of one writer
(of 13) seem to follow each other, so most are by hands that train never
shows. The unlabelled images have no annotation at all.

Do not compare results on it with other data sets: it is made to try out and
to test software, and small enough that results depend on the seed.

## Sources

| what | from | author and licence |
|---|---|---|
| 1797 handwritten digits, 8x8 | `sklearn.datasets.load_digits`, \
[UCI 80](https://doi.org/10.24432/C50P49) | E. Alpaydin, C. Kaynak; CC BY 4.0 |
| china.jpg | scikit-learn, \
[Flickr](https://www.flickr.com/photos/danielbuechele/6061409035/) | \
danielbuechele; [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/) |
| flower.jpg | scikit-learn, \
[Flickr](https://www.flickr.com/photos/vultilion/6056698931/) | \
vultilion; [CC BY 2.0](https://creativecommons.org/licenses/by/2.0/) |
| camera, chelsea, coffee | scikit-image | Lav Varshney, \
Stefan van der Walt, Rachel Michetti; CC0 |
| brick, grass, gravel | scikit-image, from cc0textures.com and DeviantArt | \
CC0 |
| astronaut, hubble_deep_field | scikit-image, from NASA | public domain |
| rocket | scikit-image, from SpaceX | public domain |
| coins | scikit-image, from the Brooklyn Museum | \
no known copyright restrictions |
| ihc | scikit-image, from CMMI | no known copyright restrictions |
| retina | scikit-image, from Wikimedia Commons, Mikael Häggström | CC0 |

All pictures were cropped, flipped, recoloured and blurred.
"""


def background_path(package: str, name: str) -> Path:
    """Path of a picture that ships inside an installed package.

    The package is only located, not imported: ``skimage.data`` would try to
    download a missing file.

    Raises:
        ModuleNotFoundError: If the package is not installed.
        FileNotFoundError: If its wheel does not hold the picture.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f'{package} is missing: {INSTALL_HINT}')
    root = Path(next(iter(spec.submodule_search_locations)))
    path = root / _FOLDERS[package] / name
    if not path.is_file():
        raise FileNotFoundError(
            f'{package} is installed, but without its picture {path}: '
            f'{INSTALL_HINT} from PyPI (distribution packages may strip it)'
        )
    return path


@lru_cache(maxsize=4)
def load_backgrounds(split: str) -> tuple[np.ndarray, ...]:
    """Read the background pictures of 'train' or 'val'.

    Returns:
        (h, w, 3) uint8 BGR pictures, all of the split or an error.
    """
    pictures = []
    for package, name in BACKGROUNDS[split]:
        path = background_path(package, name)
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise OSError(f'{path} cannot be decoded; reinstall {package}')
        pictures.append(picture)
    return tuple(pictures)


@lru_cache(maxsize=4)
def load_digits_of(split: str) -> tuple[np.ndarray, ...]:
    """Read the handwritten digits of 'train' or 'val', grouped by class.

    Returns:
        Ten arrays (n_class, 8, 8) float32 in [0, 1], 1 being ink.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ModuleNotFoundError(
            f'scikit-learn is missing: {INSTALL_HINT}'
        ) from error
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    cut = len(images) - NUM_VAL_DIGITS
    part = slice(cut, None) if split == 'val' else slice(0, cut)
    images, labels = images[part], data.target[part]
    return tuple(images[labels == label] for label in range(10))
