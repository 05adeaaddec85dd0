"""A small data set of known boxes, and what reads it back."""

import json
from pathlib import Path

import pytest

from mmfgl.utils.formats import Split
from tests.coco_sets import annotation

# YAML takes the last one for a truth value
NAMES = ('disc', 'square', 'no')
SIZES = dict(
    train={'a.jpg': (64, 48), 'b.png': (101, 83), 'c.jpg': (33, 57)},
    val={'d.jpg': (80, 60), 'e.jpg': (640, 9)},
)
# image index from 1, box and category; the images c and e have none, or few
BOXES = dict(
    train=[
        (1, (30.25, 20.5, 20, 24), 1),
        (1, (0, 0, 64, 48), 2),
        (2, (1.125, 2, 99.875, 81), 3),
        (2, (40, 30, 16, 16), 1),
    ],
    val=[(1, (5, 6, 7, 8.5), 3), (2, (600.5, 1, 39.5, 8), 1)],
)


def make_content(part: str) -> dict:
    """COCO content of known boxes."""
    images = [
        dict(id=i, file_name=name, width=size[0], height=size[1])
        for i, (name, size) in enumerate(SIZES[part].items(), 1)
    ]
    rows = enumerate(BOXES[part], 1)
    anns = [annotation(i, image, box, c) for i, (image, box, c) in rows]
    categories = [dict(id=i, name=n) for i, n in enumerate(NAMES, 1)]
    return dict(images=images, annotations=anns, categories=categories)


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content), encoding='utf-8')


def rows_of(split: Split) -> list[tuple]:
    """(stem of the image, class, box) of each object, in order."""
    content = split.content
    names = {c['id']: c['name'] for c in content['categories']}
    stems = {
        image['id']: Path(image['file_name']).stem.split('_')[0]
        for image in content['images']
    }
    return [
        (stems[a['image_id']], names[a['category_id']], a['bbox'])
        for a in content['annotations']
    ]


def assert_same(splits: dict[str, Split], parts: dict[str, Split]) -> None:
    """The same images, classes and boxes, to 0.01 px."""
    assert list(splits) == list(parts)
    for part, split in splits.items():
        names = {Path(path).name.split('_')[0] for path in split.paths()}
        wanted = {Path(path).name for path in parts[part].paths()}
        stems = {Path(name).stem for name in wanted}
        assert {Path(name).stem for name in names} == stems
        assert all(Path(path).is_file() for path in split.paths())
        found, right = rows_of(split), rows_of(parts[part])
        assert [row[:2] for row in found] == [row[:2] for row in right]
        for (_, _, box), (_, _, wanted_box) in zip(found, right, strict=True):
            assert box == pytest.approx(wanted_box, abs=0.01)
