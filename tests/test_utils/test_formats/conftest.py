from pathlib import Path

import pytest
from PIL import Image

from mmfgl.utils.formats import Split
from tests.test_utils.test_formats.known_boxes import (
    SIZES,
    make_content,
    write_json,
)


@pytest.fixture(scope='session')
def parts(tmp_path_factory) -> dict[str, Split]:
    """A COCO set of two splits; tests must not change it."""
    root = tmp_path_factory.mktemp('source')
    splits = {}
    for part, sizes in SIZES.items():
        folder = root / part
        folder.mkdir()
        for number, (name, size) in enumerate(sizes.items()):
            Image.new('RGB', size, (9 * number, 50, 0)).save(folder / name)
        splits[part] = Split(make_content(part), str(folder))
    return splits


@pytest.fixture
def coco_root(parts, tmp_path) -> Path:
    """The same written as COCO: ``train/``, ``val/``, ``annotations/``."""
    root = tmp_path / 'coco'
    (root / 'annotations').mkdir(parents=True)
    for part, split in parts.items():
        (root / part).symlink_to(split.root)
        write_json(root / 'annotations' / f'{part}.json', split.content)
    return root
