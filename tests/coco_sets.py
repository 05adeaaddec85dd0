"""A tiny COCO set whose annotations tests spoil."""

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from mmfgl.utils.audit import AuditReport, Use, audit_coco

CLASSES = ('disc', 'square')
SIZE = (64, 48)  # (width, height) in pixels
Change = Callable[[dict], object]  # of a file's content, in place


def annotation(
    number: int, image: int, box: tuple, category: int = 1, **more
) -> dict:
    """A sound annotation; ``box`` is (x, y, width, height) in pixels."""
    return dict(
        id=number,
        image_id=image,
        category_id=category,
        bbox=list(box),
        area=box[2] * box[3],
        iscrowd=0,
        **more,
    )


def coco_content(split: str) -> dict:
    """Two images named after the split, three objects, two classes."""
    return dict(
        images=[
            dict(id=i, file_name=f'{split}{i}.png', width=64, height=48)
            for i in (1, 2)
        ],
        annotations=[
            annotation(1, 1, (30, 20, 20, 24)),
            annotation(2, 1, (2, 2, 10, 12), 2),
            annotation(3, 2, (40, 30, 16, 16)),
        ],
        categories=[dict(id=1, name='disc'), dict(id=2, name='square')],
    )


def write_coco(root: Path, split: str, change: Change | None = None) -> None:
    """Write ``ROOT/SPLIT.json``, with a change or sound."""
    content = coco_content(split)
    if change is not None:
        change(content)
    text = json.dumps(content)
    (root / f'{split}.json').write_text(text, encoding='utf-8')


def write_coco_set(root: Path) -> None:
    """Write a sound set: images, each different, and annotations."""
    for shade, split in ((10, 'train'), (20, 'val')):
        (root / split).mkdir()
        for i in (1, 2):
            image = Image.new('RGB', SIZE, (shade, i, 0))
            image.save(root / split / f'{split}{i}.png')
        write_coco(root, split)


def audit(
    root: Path, change: Change | None = None, **use
) -> tuple[dict, AuditReport]:
    """Spoil the train annotations, if asked to, and audit them.

    The file itself stays as it is. ``use`` are fields of ``Use``.
    """
    path = root / 'train.json'
    if change is not None:
        write_coco(root, 'train', change)
    before = path.read_bytes()
    use = dict(classes=CLASSES) | use
    result = audit_coco(Use(str(path), str(root / 'train'), **use))
    assert path.read_bytes() == before
    return result


def each(key: str, **values) -> Change:
    """Set keys of every entry of a list; ``None`` takes a key out."""

    def change(content: dict) -> None:
        for entry in content[key]:
            for name, value in values.items():
                entry[name] = value(entry) if callable(value) else value
                if value is None:
                    del entry[name]

    return change


def boxes(function: Callable[[list], list]) -> Change:
    """Pass every box through a function."""
    return each('annotations', bbox=lambda ann: function(ann['bbox']))


def set_ids(
    function: Callable, key: str = 'annotations', name: str = 'id'
) -> Change:
    """Pass every id through a function."""
    return each(key, **{name: lambda entry: function(entry[name])})


def set_entry(key: str, index: int, **values) -> Change:
    """Change one entry of a list."""
    return lambda content: content[key][index].update(values)


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(content: dict) -> None:
        for one in changes:
            one(content)

    return change
