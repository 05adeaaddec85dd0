"""Propose regions of unlabelled images and write them as a region file.

Usage::

    python tools/dataset_converters/propose_regions.py my_photos/ \
        --out my_photos_regions.json --workers 8
    python tools/dataset_converters/propose_regions.py data/coco/train2017/ \
        --ann-file data/coco/annotations/instances_train2017.json \
        --cfg-options mode=single max_regions=30 --clusters 64 \
        --teacher tf_efficientnet_lite2 \
        checkpoints/efficientnet-lite2_imagenet.pth \
        --out data/coco/regions_train2017.json --workers 32

A region teacher embeds the crop of each region: targets of
``mmfgl.RegionEmbeddingTask``, and what the clusters are made of. It is any
model of timm, or the backbone of a config (MMPretrain's too), with weights of
a local file; DINOv2, on a GPU::

    --teacher vit_small_patch14_dinov2 WEIGHTS --teacher-size 98
    --teacher mmpretrain::dinov2/vit-small-p14_dinov2-pre_headless.py WEIGHTS \
        --teacher-size 98 --teacher-licence Apache-2.0

A further round learns from what a pretrained detector finds, and from the
search's boxes together with it; a detector of few labels serves as well::

    python tools/dataset_converters/propose_regions.py my_photos/ \
        --detector CONFIG CHECKPOINT --clusters 64 \
        --cfg-options join=my_photos_regions.json --out my_photos_round2.json

Read the result with ``dict(type='mmfgl.FileRegions', ann_file=...)``. It is
COCO-format JSON where ``--out`` ends so, with the embeddings beside it, else a
folder of arrays, which is read memory-mapped: for millions of images. Finished
images are kept in the cache: a run that was stopped does only the rest.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
from mmengine.config import Config
from mmengine.utils import track_iter_progress
from region_search.cache import ImageProposals, digest_of, propose_all
from region_search.listed_images import ListedImages
from region_search.teacher_embeddings import (
    TeacherCache,
    cluster_rows,
    reduce_embeddings,
)

from mmfgl.datasets.region_arrays import (
    GrowingArray,
    RegionSpool,
    write_region_arrays,
)
from mmfgl.datasets.region_file import write_embeddings, write_region_file
from mmfgl.models.selfsup import RegionTeacher
from mmfgl.utils.launch import OptionAction
from mmfgl.utils.names import printable
from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.utils.weights import use_safe_loading


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description='Propose regions of unlabelled images',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('folder', help='image folder, searched with its sub-folders')
    add('--out', required=True, help='NAME.json or a folder to write')
    add('--ann-file', default='', help='text list or COCO JSON of the images')
    default = 'mmfgl.SelectiveSearchRegions'
    add('--proposer', default=default, help='type of the proposer')
    detector = 'propose what a ReToD or a detector finds'
    metavar = ('CONFIG', 'CHECKPOINT')
    add('--detector', nargs=2, metavar=metavar, help=detector)
    options = 'settings of the proposer, e.g. mode=quality; of a detector '
    options += 'max_regions, score_thr, flip, snap=FILE, join=FILE'
    add('--cfg-options', nargs='+', action=OptionAction, help=options)
    add('--workers', type=int, default=os.cpu_count(), help='processes')
    add('--clusters', type=int, default=0, help='pseudo-labels by k-means')
    embed = 'embed the regions by this model of timm or backbone of a config, '
    embed += 'and cluster the embeddings instead of colours and gradients'
    add('--teacher', nargs=2, metavar=('MODEL', 'WEIGHTS'), help=embed)
    trust = 'unpickle whatever WEIGHTS or CHECKPOINT hold: any code'
    add('--trust-checkpoint', action='store_true', help=trust)
    by = 'what the clusters are made of; default: the teacher, if there is one'
    add('--cluster-by', choices=('teacher', 'colour'), help=by)
    size = 'side of the crops that the teacher sees, in pixels'
    add('--teacher-size', type=int, default=64, help=size)
    licence = 'licence of WEIGHTS, where neither the file nor timm states it'
    add('--teacher-licence', help=licence)
    add('--embed-dims', type=int, default=128, help='width of the embeddings')
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    if args.workers < 0 or args.clusters < 0:
        parser.error('--workers and --clusters cannot be negative')
    if args.cluster_by == 'teacher' and not args.teacher:
        parser.error('--cluster-by teacher needs a --teacher')
    default = 'teacher' if args.teacher else 'colour'
    args.cluster_by = args.cluster_by or default
    if args.teacher_size < 1 or args.embed_dims < 1:
        parser.error('--teacher-size and --embed-dims must be at least 1')
    return args


class Collection:
    """Regions of all images on disk, from the search to the region file.

    Args:
        args: The command line.

    Attributes:
        counts: What is printed at the end.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        # what is kept between runs
        self.cache = f'{args.out.rstrip("/")}.cache'
        self.teacher: TeacherCache | None = None
        if args.teacher:
            teacher = RegionTeacher(
                *args.teacher,
                args.teacher_size,
                args.teacher_licence,
                args.trust_checkpoint,
            )
            self.teacher = TeacherCache(teacher.cuda_if_any(), self.cache)
        self.spool = RegionSpool(f'{self.cache}/spool')
        # 'colour' and 'teacher', of all regions
        self.features: dict[str, GrowingArray] = {}
        self.unreadable: set[int] = set()
        self.counts = dict(images=0, regions=0, cached=0, unreadable=0)

    def add(
        self, path: str, image: dict, found: ImageProposals | None
    ) -> None:
        """Take the regions of an image in, ``None`` if it is unreadable."""
        if found is None:
            print(f'unreadable: {printable(path)}', file=sys.stderr)
            self.unreadable.add(image['id'])
            self.counts['unreadable'] += 1
            return
        count = len(found.boxes)
        self.spool.append(
            image['file_name'],
            found.img_shape,
            boxes=found.boxes,
            scores=1 - np.arange(count) / max(count, 1),
            labels=found.labels,
        )
        self.counts['images'] += 1
        self.counts['regions'] += count
        self.counts['cached'] += found.cached
        described = dict(colour=found.descriptors)
        if self.teacher is not None:
            described['teacher'] = self.teacher(path, found)
        for name, rows in described.items():
            if name not in self.features:
                self.features[name] = GrowingArray(
                    self.spool.folder / name, rows.dtype, rows.shape[1:]
                )
            self.features[name].append(rows)

    def write(self, images: ListedImages) -> None:
        """Reduce, cluster, and write the region file."""
        args, arrays = self.args, self.spool.read()
        folder, meta = self.spool.folder, {}
        if not self.features:
            raise ValueError(f'no image of {args.folder} can be read')
        features = {key: rows.read() for key, rows in self.features.items()}
        if self.teacher is not None:
            features['teacher'] = arrays['embeddings'] = reduce_embeddings(
                features['teacher'], args.embed_dims, folder / 'embeddings'
            )
            meta['teacher'] = self.teacher.teacher.meta
        if args.clusters:
            arrays['labels'] = cluster_rows(
                features[args.cluster_by], args.clusters, folder / 'clusters'
            )
        if not args.out.endswith('.json'):
            write_region_arrays(args.out, arrays, meta)
            return
        if self.teacher is not None:
            meta['embeddings'] = write_embeddings(
                args.out, arrays['embeddings']
            )
        read = (i for _, i in images if i['id'] not in self.unreadable)
        write_region_file(args.out, read, _regions_of(arrays), meta)


def _regions_of(arrays: dict[str, np.ndarray]) -> Iterator[SimpleNamespace]:
    """Regions of one image after the other."""
    for image in arrays['images']:
        rows = slice(*image['rows'])
        yield SimpleNamespace(
            img_shape=(int(image['height']), int(image['width'])),
            boxes=arrays['boxes'][rows],
            labels=arrays['labels'][rows],
        )


def proposer_of(args: argparse.Namespace, cache: str) -> tuple[dict, str]:
    """Config of the proposer, and the folder where its regions are kept.

    That of a detector is named by the content of its files: a training
    writes another checkpoint under the same name.
    """
    proposer = Config(dict(type=args.proposer))
    proposer.merge_from_dict(args.cfg_options or {})
    settings = proposer.to_dict()
    if not args.detector:
        return settings, cache
    # not before: torch takes some seconds
    from region_search.detector_regions import DetectorRegions

    config, checkpoint = args.detector
    settings.update(type=DetectorRegions, config=config, checkpoint=checkpoint)
    files = [checkpoint, settings.get('snap'), settings.get('join')]
    # with its bases
    text = repr(Config.fromfile(config).to_dict())
    digest = digest_of(filter(None, files), text)
    cache = os.path.join(cache, f'detector-{digest}')
    return settings, cache


def run(args: argparse.Namespace) -> dict:
    """Propose, embed, cluster, write; returns the counts that are printed."""
    images = ListedImages(args.folder, args.ann_file)
    collection = Collection(args)
    search = propose_all(
        (path for path, _ in images),
        *proposer_of(args, collection.cache),
        describe=args.clusters > 0 and args.cluster_by == 'colour',
        # a detector computes on all cores, or on a GPU
        workers=0 if args.detector else args.workers,
    )
    pairs = zip(images, search, strict=True)
    try:
        for image, found in track_iter_progress((pairs, len(images))):
            collection.add(*image, found)
        collection.write(images)
    finally:
        collection.spool.remove()
    return collection.counts


def main(argv: list[str] | None = None) -> None:
    """Run the tool; stop with a one-line message on a user's error."""
    args = parse_args(argv)
    use_safe_loading(args.trust_checkpoint)
    with user_errors(args.debug):
        counts = run(args)
    numbers = ', '.join(f'{value} {key}' for key, value in counts.items())
    print(f'{numbers} -> {args.out}')


if __name__ == '__main__':
    main()
