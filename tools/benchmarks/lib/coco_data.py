"""The data sets of transfer.py, and subsets of their labels."""

import json
import random
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from mmfgl.utils.names import IMG_EXTENSIONS


@dataclass(frozen=True)
class DataSet:
    """A COCO-format data set: ``train/ val/ annotations/``."""

    root: Path
    classes: tuple[str, ...]  # names in the order of the JSON
    num_images: int  # in train/, labelled or not
    num_labelled: int  # listed in annotations/train.json
    num_val: int  # listed in annotations/val.json

    @classmethod
    def read(cls, root: str | Path) -> 'DataSet':
        """Look at a folder.

        Raises:
            FileNotFoundError: A part of the layout is missing.
            ValueError: ``train`` and ``val`` have other classes.
        """
        root = Path(root).resolve()
        need = [root / 'train', root / 'val']
        need += [root / f'annotations/{s}.json' for s in ('train', 'val')]
        missing = [str(path) for path in need if not path.exists()]
        if missing:
            raise FileNotFoundError(
                '--data-root needs train/ val/ annotations/{train,val}.json '
                f'in COCO format; missing: {", ".join(missing)}'
            )
        train, val = (json.loads(path.read_bytes()) for path in need[2:])
        classes, other = (
            tuple(category['name'] for category in part['categories'])
            for part in (train, val)
        )
        if classes != other:
            raise ValueError(
                'annotations/train.json and val.json list other categories, '
                f'or in another order: {classes} and {other}'
            )
        files = (root / 'train').rglob('*')
        count = sum(path.suffix.lower() in IMG_EXTENSIONS for path in files)
        sizes = len(train['images']), len(val['images'])
        return cls(root, classes, count, *sizes)


def label_subset(
    data: DataSet, labels: int | None = None, shots: int | None = None
) -> dict:
    """COCO annotations of some random train images.

    Of ``labels`` images, or of so many that every class has ``shots`` objects
    at least, as far as there are so many. The choice is the same for every
    arm and seed. Only images with an object are drawn, since a detector
    trains on no others. All objects of a chosen image stay: one without its
    label would be taught as background.

    Raises:
        ValueError: There are fewer labelled images than ``labels``.
    """
    source = data.root / 'annotations/train.json'
    content = json.loads(source.read_bytes())
    objects = defaultdict(Counter)  # of an image by class
    for note in content['annotations']:
        objects[note['image_id']][note['category_id']] += 1
    if labels is not None:
        if not 0 < labels <= len(objects):
            raise ValueError(
                f'--labels {labels}: annotations/train.json has '
                f'{len(objects)} images with objects'
            )
        chosen = random.Random(0).sample(sorted(objects), labels)
    else:
        chosen = _draw_shots(objects, shots)
    keep = set(chosen)
    images = {image['id']: image for image in content['images']}
    content['images'] = [images[image] for image in chosen]
    content['annotations'] = [
        note for note in content['annotations'] if note['image_id'] in keep
    ]
    return content


def _draw_shots(objects: dict[int, Counter], shots: int) -> list[int]:
    """Draw images for one class after the other, rare classes first."""
    order = sorted(objects)
    random.Random(0).shuffle(order)
    total, seen = sum(objects.values(), Counter()), Counter()
    chosen = []
    for label in sorted(total, key=lambda key: (total[key], key)):
        for image in order:
            if seen[label] >= shots:
                break
            if objects[image][label] and image not in chosen:
                chosen.append(image)
                seen.update(objects[image])
    return chosen
