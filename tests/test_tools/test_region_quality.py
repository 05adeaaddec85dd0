import json

import numpy as np
import pytest

from mmfgl.datasets.region_file import write_region_file
from tools.analysis_tools import region_quality as tool


class Found:
    img_shape = (100, 100)

    def __init__(self, *boxes):
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.labels = np.zeros(len(boxes), int)


NEAR, FAR = [0, 0, 20, 20], [60, 60, 90, 90]
IMAGES = [dict(id=i, file_name=f'{i}.jpg') for i in (1, 2)]


@pytest.fixture
def files(tmp_path):
    """Two region files and the labels of two images."""
    first, second = (str(tmp_path / f'{i}.json') for i in (1, 2))
    write_region_file(first, IMAGES, [Found(NEAR, FAR), Found(FAR)])
    write_region_file(second, IMAGES, [Found([1, 0, 20, 20]), Found(NEAR)])
    notes = [
        dict(image_id=1, bbox=[0, 0, 20, 19], iscrowd=0),
        dict(image_id=1, bbox=[30, 30, 9, 9], iscrowd=0),
        dict(image_id=2, bbox=[60, 60, 30, 30], iscrowd=1),
    ]
    ann = tmp_path / 'ann.json'
    ann.write_text(json.dumps(dict(images=IMAGES, annotations=notes)))
    return first, second, str(ann)


def numbers(text):
    """Numbers of the table's rows."""
    rows = [line.split('|')[2:-1] for line in text.splitlines()[2:]]
    return [[float(cell) for cell in row] for row in rows]


def test_quality(files):
    first, second, ann = files
    text = tool.run(tool.parse_args([first, second, '--ann', ann]))
    assert numbers(text) == [
        # images, boxes an image, agreement, precision of 1, 5, 10, recall
        [2, 1.5, 100, 50, 33.3, 33.3, 50, 50, 50],
        [2, 1.0, 50, 50, 50, 50, 50, 50, 50],
    ]
    # without labels
    assert numbers(tool.run(tool.parse_args([first, second]))) == [
        [2, 1.5, 100],
        [2, 1.0, 50],
    ]


def test_clear_errors(files, tmp_path):
    def fails(message, *args):
        with pytest.raises(SystemExit, match=message):
            tool.main(list(args))

    fails('none.json', str(tmp_path / 'none.json'))
    fails('give the images by --ann', str(tmp_path))
    other = tmp_path / 'other.json'
    other.write_text('{"images": [], "annotations": []}')
    fails('none of the images', files[0], '--ann', str(other))
    for text in ('[]', '{"images": []}', 'no JSON'):
        other.write_text(text)
        fails('no COCO JSON', files[0], '--ann', str(other))
