"""Propose regions of unlabelled images and write them as COCO-format JSON.

Usage::

    python tools/dataset_converters/propose_regions.py my_photos/ \
        --out my_photos_regions.json --workers 8
    python tools/dataset_converters/propose_regions.py data/coco/train2017/ \
        --ann-file data/coco/annotations/instances_train2017.json \
        --cfg-options mode=single max_regions=30 --clusters 64 \
        --out data/coco/regions_train2017.json --workers 32

Read them with ``dict(type='mmfgl.FileRegions', ann_file=...)``. Finished
images are kept in the cache: a run that was stopped does only the rest.
"""

import argparse
import json
import os
import sys

import numpy as np
from mmengine.config import Config, DictAction
from mmengine.utils import track_iter_progress
from region_search.backbone_descriptors import (
    BackboneDescriber,
    describe_with_backbone,
)
from region_search.cache import ImageProposals, propose_all

from mmfgl.datasets import UnlabelledImages
from mmfgl.datasets.region_file import write_region_file
from mmfgl.utils.names import printable

MAX_FIT = 200_000  # regions that the clusters are fitted to


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Propose regions of unlabelled images',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('folder', help='image folder, searched with its sub-folders')
    add('--out', required=True, help='COCO-format JSON to write')
    add('--ann-file', default='', help='text list or COCO JSON of the images')
    default = 'mmfgl.SelectiveSearchRegions'
    add('--proposer', default=default, help='type of the proposer')
    options = 'settings of the proposer, e.g. mode=quality'
    add('--cfg-options', nargs='+', action=DictAction, help=options)
    add('--workers', type=int, default=os.cpu_count(), help='processes')
    add('--clusters', type=int, default=0, help='pseudo-labels by k-means')
    add(
        '--features',
        nargs=2,
        metavar=('CONFIG', 'WEIGHTS'),
        help='cluster by features of the backbone of CONFIG with these '
        'weights instead of colours and gradients',
    )
    args = parser.parse_args(argv)
    if args.workers < 0 or args.clusters < 0:
        parser.error('--workers and --clusters cannot be negative')
    if args.features and not args.clusters:
        parser.error('--features is for --clusters')
    return args


def list_images(args: argparse.Namespace) -> list[dict]:
    """``id, file_name, path`` of every image; ids are those of a COCO JSON."""
    data = UnlabelledImages(
        data_root='',
        data_prefix=dict(img_path=args.folder),
        ann_file=args.ann_file,
    )
    paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
    ids = range(1, len(paths) + 1)
    if args.ann_file.endswith('.json'):
        with open(args.ann_file, 'rb') as file:
            ids = [image['id'] for image in json.load(file)['images']]
    return [
        dict(id=i, file_name=_name(path, args.folder), path=path)
        for i, path in zip(ids, paths, strict=True)
    ]


def _name(path: str, folder: str) -> str:
    """Path below the folder; the absolute one of an image elsewhere."""
    name = os.path.relpath(path, folder)
    return os.path.abspath(path) if name.startswith('..') else name


def cluster(found: list[ImageProposals], count: int) -> None:
    """Replace the labels by clusters of the descriptors, in place."""
    from sklearn.cluster import MiniBatchKMeans

    total = sum(len(regions.boxes) for regions in found)
    if total < count:
        raise ValueError(f'{total} regions cannot make {count} clusters')
    rng = np.random.default_rng(0)
    share = min(1.0, MAX_FIT / total)
    sample = np.concatenate(
        [r.descriptors[rng.random(len(r.descriptors)) <= share] for r in found]
    )
    kmeans = MiniBatchKMeans(count, random_state=0, n_init=3)
    kmeans.fit(sample)
    for regions in found:
        if len(regions.boxes):
            regions.labels = kmeans.predict(regions.descriptors)


def run(args: argparse.Namespace) -> dict:
    """Propose, cluster and write; returns the counts that are printed."""
    proposer = Config(dict(type=args.proposer))
    proposer.merge_from_dict(args.cfg_options or {})
    images = list_images(args)
    search = propose_all(
        [image['path'] for image in images],
        proposer.to_dict(),
        f'{args.out}.cache',
        describe=args.clusters > 0 and not args.features,
        workers=args.workers,
    )
    found = list(track_iter_progress((search, len(images))))
    pairs = list(zip(images, found, strict=True))
    bad = [image['path'] for image, regions in pairs if regions is None]
    for path in bad:
        print(f'unreadable: {printable(path)}', file=sys.stderr)
    images = [image for image, regions in pairs if regions is not None]
    found = [regions for regions in found if regions is not None]
    paths = [image.pop('path') for image in images]
    if args.features:
        describer = BackboneDescriber(*args.features)
        described = describe_with_backbone(paths, found, describer)
        list(track_iter_progress((described, len(paths))))
    if args.clusters:
        cluster(found, args.clusters)
    return dict(
        images=len(images),
        regions=write_region_file(args.out, images, found),
        cached=sum(regions.cached for regions in found),
        unreadable=len(bad),
    )


def main(argv: list[str] | None = None) -> None:
    """Run the tool; stop with a one-line message on a user's error."""
    args = parse_args(argv)
    try:
        counts = run(args)
    except (OSError, ImportError, ValueError, KeyError) as error:
        sys.exit(f'propose_regions: {error}')
    numbers = ', '.join(f'{value} {key}' for key, value in counts.items())
    print(f'{numbers} -> {args.out}')


if __name__ == '__main__':
    main()
