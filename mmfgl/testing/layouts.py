"""COCO data sets written in the layouts of other tools.

For tests, and to show that they are read. Images are copied. ``parts`` holds
splits by name (``train``, ``val``, ``test``).
"""

from __future__ import annotations

import hashlib
import json
import os.path as osp
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from mmfgl.utils.formats import Split

ROBOFLOW_FOLDERS = dict(train='train', val='valid', test='test')


def _images(split: Split) -> Iterator[tuple[dict, Path, list[dict]]]:
    """(image, its file, its annotations)."""
    objects = defaultdict(list)
    for ann in split.content['annotations']:
        objects[ann['image_id']].append(ann)
    for image in split.content['images']:
        path = Path(split.root, image['file_name'])
        yield image, path, objects[image['id']]


def _names(parts: Mapping[str, Split]) -> dict[int, str]:
    """Class names by category id, in the order of the file."""
    categories = next(iter(parts.values())).content['categories']
    return {category['id']: category['name'] for category in categories}


def write_yolo(
    out: str | Path, parts: Mapping[str, Split], roboflow: bool = False
) -> Path:
    """Write a YOLO data set: ``data.yaml``, images and txt labels.

    Args:
        out: Its folder, which is made.
        parts: Splits of a COCO data set.
        roboflow: Folders and ``data.yaml`` as Roboflow exports them,
            ``train/images`` and ``../train/images``; else as Ultralytics,
            ``images/train``.

    Returns:
        Path of ``data.yaml``.
    """
    out = Path(out)
    names = _names(parts)
    classes = {category: index for index, category in enumerate(names)}
    keys = {}
    for part, split in parts.items():
        folder = ROBOFLOW_FOLDERS[part] if roboflow else part
        kinds = ('images', 'labels')
        inner = [
            f'{folder}/{k}' if roboflow else f'{k}/{folder}' for k in kinds
        ]
        keys[part] = f'../{inner[0]}' if roboflow else inner[0]
        images, labels = (out / place for place in inner)
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for image, path, anns in _images(split):
            shutil.copy2(path, images / path.name)
            width, height = image['width'], image['height']
            lines = []
            for ann in anns:
                if ann.get('iscrowd'):  # which YOLO does not know
                    continue
                x, y, w, h = ann['bbox']
                shares = (x + w / 2) / width, (y + h / 2) / height
                shares += w / width, h / height
                numbers = ' '.join(f'{share:.6f}' for share in shares)
                lines.append(f'{classes[ann["category_id"]]} {numbers}\n')
            text = labels / f'{path.stem}.txt'
            text.write_text(''.join(lines), encoding='utf-8')
    lines = [f'{key}: {value}\n' for key, value in keys.items()]
    if roboflow:
        lines.append(f'\nnc: {len(names)}\n')
        lines.append(f'names: {json.dumps(list(names.values()))}\n')
    else:
        lines.append('names:\n')
        rows = enumerate(map(json.dumps, names.values()))
        lines += [f'  {index}: {name}\n' for index, name in rows]
    source = out / 'data.yaml'
    source.write_text(''.join(lines), encoding='utf-8')
    return source


def write_roboflow(out: str | Path, parts: Mapping[str, Split]) -> Path:
    """Write a COCO data set as Roboflow exports it.

    Annotations lie beside the images in ``train/``, ``valid/`` and ``test/``,
    images are named ``NAME_jpg.rf.HASH.jpg``, and a category 0 groups the
    others.

    Returns:
        ``out``, which is made.
    """
    out = Path(out)
    names = _names(parts)
    new = {category: number for number, category in enumerate(names, 1)}
    for part, split in parts.items():
        folder = out / ROBOFLOW_FOLDERS[part]
        folder.mkdir(parents=True)
        categories = [dict(id=0, name='objects', supercategory='none')]
        for number, name in enumerate(names.values(), 1):
            one = dict(id=number, name=name, supercategory='objects')
            categories.append(one)
        images, annotations = [], []
        for number, (image, path, anns) in enumerate(_images(split)):
            digest = hashlib.md5(path.read_bytes()).hexdigest()
            name = f'{path.stem}_{path.suffix[1:]}.rf.{digest}{path.suffix}'
            shutil.copy2(path, folder / name)
            size = dict(height=image['height'], width=image['width'])
            images.append(dict(id=number, license=1, file_name=name) | size)
            for ann in anns:
                one = dict(
                    id=len(annotations),
                    image_id=number,
                    category_id=new[ann['category_id']],
                    bbox=ann['bbox'],
                    area=ann['bbox'][2] * ann['bbox'][3],
                    segmentation=[],
                    iscrowd=ann.get('iscrowd', 0),
                )
                annotations.append(one)
        content = dict(info={}, licenses=[], categories=categories)
        content |= dict(images=images, annotations=annotations)
        path = folder / '_annotations.coco.json'
        path.write_text(json.dumps(content), encoding='utf-8')
    return out


def write_voc(out: str | Path, parts: Mapping[str, Split]) -> Path:
    """Write a Pascal VOC data set: ``Annotations``, ``JPEGImages`` and lists.

    Crowd regions are marked difficult.

    Returns:
        ``out``, which is made.
    """
    out = Path(out)
    names = _names(parts)
    lists = out / 'ImageSets' / 'Main'
    for folder in (out / 'Annotations', out / 'JPEGImages', lists):
        folder.mkdir(parents=True)
    for part, split in parts.items():
        stems = []
        for image, path, anns in _images(split):
            shutil.copy2(path, out / 'JPEGImages' / path.name)
            root = ET.Element('annotation')
            ET.SubElement(root, 'filename').text = path.name
            size = ET.SubElement(root, 'size')
            for key in ('width', 'height'):
                ET.SubElement(size, key).text = str(image[key])
            for ann in anns:
                node = ET.SubElement(root, 'object')
                ET.SubElement(node, 'name').text = names[ann['category_id']]
                difficult = ET.SubElement(node, 'difficult')
                difficult.text = str(ann.get('iscrowd', 0))
                x, y, w, h = ann['bbox']
                corners = dict(xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
                box = ET.SubElement(node, 'bndbox')
                for key, value in corners.items():
                    ET.SubElement(box, key).text = f'{round(value, 4)}'
            stem = osp.splitext(path.name)[0]
            ET.ElementTree(root).write(out / 'Annotations' / f'{stem}.xml')
            stems.append(stem)
        text = ''.join(f'{stem}\n' for stem in stems)
        (lists / f'{part}.txt').write_text(text, encoding='utf-8')
    return out
