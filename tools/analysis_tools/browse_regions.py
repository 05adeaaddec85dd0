#!/usr/bin/env python
"""Draw what a pretraining sees: views, regions, pseudo-objects, clusters.

    python tools/analysis_tools/browse_regions.py CONFIG --out DIR [--num 24]

Reads the config's own train data and pipeline, whether the regions come from
a file or are searched while it trains. DIR gets contact sheets, page_01.png
and on, each image beside its views; and clusters.png, examples of the largest
clusters of pseudo-objects (of all boxes, where there are no clusters).
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from mmengine.utils import track_iter_progress

import mmfgl  # noqa: F401  (its registry nodes)
from mmfgl.datasets import UnlabelledImages
from mmfgl.datasets.image_reader import UnreadableImageError, read_image
from mmfgl.datasets.region_proposers import FileRegions
from mmfgl.datasets.region_proposers.base import RegionProposer
from mmfgl.datasets.transforms import RegionViews
from mmfgl.utils.launch import OptionAction, load_config
from mmfgl.utils.names import printable
from mmfgl.utils.user_errors import add_debug_argument, user_errors
from mmfgl.visualization.regions import SeenImage, draw_clusters, draw_seen

PAGE = 6  # images a page
CLUSTERS, EXAMPLES = 12, 10  # rows and columns of the sheet of clusters
SEARCHED = 200  # images at most that are read for examples


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('config', help='config of a pretraining')
    add('--out', required=True, help='folder of the sheets')
    add('--num', type=int, default=24, help='images, spread over the data')
    options = 'override settings of the config, such as data_root=DIR'
    add('--cfg-options', nargs='+', action=OptionAction, help=options)
    add_debug_argument(parser)
    parser.set_defaults(local_rank=0, launcher='none', work_dir=None)
    args = parser.parse_args(argv)
    if args.num < 1:
        parser.error('--num must be >= 1')
    return args


def build_dataset(
    args: argparse.Namespace,
) -> tuple[BaseDataset, RegionProposer]:
    """The train data of a config, and the proposer of its pseudo-objects.

    Where there are no pseudo-objects it is the proposer of the regions.

    Raises:
        ValueError: The config has no region views.
    """
    cfg = load_config(args)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    views = ()
    if isinstance(dataset, UnlabelledImages):
        steps = dataset.pipeline.transforms
        views = [step for step in steps if isinstance(step, RegionViews)]
    if not views:
        raise ValueError(
            f'{args.config} trains on no region views (mmfgl.UnlabelledImages '
            'and mmfgl.RegionViews): browse_dataset.py draws its data, that '
            'of MMDetection for a detector, of MMPretrain for a pretraining'
        )
    return dataset, views[0].object_proposer or views[0].proposer


def look(
    dataset: BaseDataset, num: int, skipped: dict[str, str]
) -> Iterator[SeenImage]:
    """Images as the pipeline gives them, spread over the data set.

    Those that cannot be read go into ``skipped``, with the reason; as in
    training, others stand in for them.
    """
    rows = np.linspace(0, len(dataset) - 1, min(num, len(dataset)))
    folder = dataset.data_prefix['img_path']
    for row in track_iter_progress(rows.round().astype(int).tolist()):
        packed = dataset[row]
        skipped.update(packed['data_samples'].get('skipped', ()))
        yield SeenImage.of(packed, folder)


def examples(
    dataset: BaseDataset, proposer: RegionProposer, skipped: dict[str, str]
) -> tuple[dict[int, list[np.ndarray]], dict[int, int]]:
    """Crops of the largest clusters, and the number of boxes of all.

    Numbers are those of the region file, or of the images that were read.
    """
    counts, crops = Counter(), defaultdict(list)
    wanted = None
    if isinstance(proposer, FileRegions):
        totals = np.bincount(np.asarray(proposer.regions.labels))
        counts.update(dict(enumerate(totals.tolist())))
        wanted = [label for label, _ in counts.most_common(CLUSTERS)]
    order = np.random.permutation(len(dataset))[:SEARCHED]
    for row in order.tolist():
        path = dataset.get_data_info(row)['img_path']
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            skipped[path] = error.reason
            continue
        info = dict(img_path=path, img_shape=image.shape[:2], img=image)
        boxes, labels, _ = proposer.propose_rows(info)
        if wanted is None:
            counts.update(labels.tolist())
        first = np.unique(labels, return_index=True)[1]  # one an image
        for box, label in zip(boxes[first], labels[first].tolist()):
            low = np.floor(box[:2]).astype(int)
            high = np.maximum(np.ceil(box[2:]).astype(int), low + 1)
            if len(crops[label]) < EXAMPLES:
                crop = image[low[1] : high[1], low[0] : high[0], ::-1]
                crops[label].append(np.ascontiguousarray(crop))
        shown = wanted or list(counts)[:CLUSTERS]
        if all(len(crops[label]) >= EXAMPLES for label in shown):
            break
    largest = [label for label, _ in counts.most_common(CLUSTERS)]
    found = {label: crops[label] for label in largest if crops[label]}
    return found, counts


def main(argv: list[str] | None = None) -> None:
    """Draw the sheets; ends with a message if the input does not fit."""
    args = parse_args(argv)
    with user_errors(args.debug):
        np.random.seed(0)  # the pipeline's generator
        dataset, proposer = build_dataset(args)
        out, skipped = Path(args.out), {}
        out.mkdir(parents=True, exist_ok=True)
        crops, counts = {}, {}
        if proposer is not None:
            crops, counts = examples(dataset, proposer, skipped)
        images, files = look(dataset, args.num, skipped), []
        while page := list(islice(images, PAGE)):
            files.append(out / f'page_{len(files) + 1:02d}.png')
            draw_seen(page, len(counts)).savefig(files[-1], dpi=110)
        if crops:
            files.append(out / 'clusters.png')
            draw_clusters(crops, counts, EXAMPLES).savefig(files[-1], dpi=110)
        print()
        for path, reason in skipped.items():
            print(f'unreadable, left out: {printable(path)}: {reason}')
        print(f'wrote {", ".join(map(str, files))}')


if __name__ == '__main__':
    main()
