"""Sources of the digit scenes: real digits and photographs, offline.

The 8x8 UCI digits and two photographs of scikit-learn, and photographs and
textures inside the scikit-image wheel (the same files in 0.22 to 0.26).
Nothing is downloaded.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

# No background of val is ever seen in training. Left out on purpose: pictures
# with digits, line art, those too small to crop, and those whose licence
# scikit-image does not state.
BACKGROUNDS = dict(
    train='sklearn/datasets/images/china.jpg skimage/data/astronaut.png '
    'skimage/data/camera.png skimage/data/chelsea.png skimage/data/grass.png '
    'skimage/data/gravel.png skimage/data/hubble_deep_field.jpg '
    'skimage/data/ihc.png skimage/data/retina.jpg',
    val='sklearn/datasets/images/flower.jpg skimage/data/brick.png '
    'skimage/data/coffee.png skimage/data/coins.png skimage/data/rocket.jpg',
)
INSTALL_HINT = (
    'digit scenes are made of data inside scikit-learn and scikit-image; '
    "install both with `pip install -e '.[quickstart]'`"
)
# The samples of one writer follow each other in load_digits, so the last ones
# are mostly by writers that training never sees; a random split would leak
# their hand: an SVM on the 8x8 pixels scores 0.99 there, 0.94 here.
NUM_VAL_DIGITS = 400

# README.md of the data set: what it is, provenance, licences.
README = """# Digit scenes

Handwritten digits pasted onto photographs and textures, to try out and test
software: {train} train, {val} val and {unlabelled} unlabelled images of
{size[0]} x {size[1]} pixels, 10 classes. Boxes and masks (run-length encoded)
cover the *visible* pixels of each digit; `area` is that of the box. val shares
neither digits nor pictures with the others, and most of its digits are by
other writers. Made by `tools/dataset_converters/digit_scenes.py`, seed {seed}.

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
| brick, grass, gravel | cc0textures.com and DeviantArt | CC0 |
| astronaut, hubble_deep_field, rocket | NASA, SpaceX | public domain |
| coins, ihc | Brooklyn Museum, CMMI | no known copyright restrictions |
| retina | Wikimedia Commons, Mikael Häggström | CC0 |

All but the first three come with scikit-image. All pictures
were cropped, flipped, recoloured and blurred.
"""


def background_path(name: str) -> Path:
    """Path of a picture inside an installed package; errors say what to do.

    The package is only located, not imported: ``skimage.data`` would try to
    download a missing file.
    """
    package, _, inside = name.partition('/')
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f'{package} is missing: {INSTALL_HINT}')
    path = Path(next(iter(spec.submodule_search_locations)), inside)
    if not path.is_file():
        raise FileNotFoundError(
            f'{package} is installed, but without its picture {path} (some '
            f'distributions strip it): {INSTALL_HINT} from PyPI'
        )
    return path


@lru_cache(maxsize=4)
def load_backgrounds(split: str) -> tuple[np.ndarray, ...]:
    """(h, w, 3) uint8 BGR background pictures of 'train' or 'val'."""
    paths = [str(background_path(name)) for name in BACKGROUNDS[split].split()]
    return tuple(cv2.imread(path, cv2.IMREAD_COLOR) for path in paths)


@lru_cache(maxsize=4)
def load_digits_of(split: str) -> tuple[np.ndarray, ...]:
    """Digits of 'train' or 'val': ten (n, 8, 8) float32 arrays, ink is 1."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(f'sklearn is missing: {INSTALL_HINT}') from error
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    is_val = np.arange(len(images)) >= len(images) - NUM_VAL_DIGITS
    part = is_val == (split == 'val')
    return tuple(images[part & (data.target == i)] for i in range(10))
