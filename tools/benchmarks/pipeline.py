"""Measure the two-view pipeline against mmpretrain's own of MoCo v2.

Usage::

    python tools/benchmarks/pipeline.py --data-root my_photos/ --out DIR
    python tools/benchmarks/pipeline.py --out DIR   # JPEGs made on the fly

Both read the same JPEGs and make two views of 224 x 224 pixels of the same
strength, in turns, in one process with one thread. Ours follows 16 regions
into both views besides. Writes ``results.json`` and ``results.md``.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import cv2
import mmengine.hub
import numpy as np
import torch
from lib.output import write_results
from mmcv.transforms import Compose
from mmengine.registry import DefaultScope

from mmfgl.datasets import UnlabelledImages
from mmfgl.utils.reports import markdown_table
from mmfgl.utils.user_errors import add_debug_argument, user_errors

SIZE = (640, 480)  # of JPEGs made on the fly
JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
JITTER.update(prob=0.8, gray_prob=0.2)
OURS = [
    dict(type='mmfgl.LoadUnlabelledImage', lazy=True),
    dict(
        type='mmfgl.RegionViews',
        proposer=dict(type='mmfgl.RandomRegions'),
        view_size=224,
        crop_scale=(0.2, 1.0),
        photometric=[
            dict(type='mmfgl.TableColorJitter', **JITTER),
            dict(type='mmfgl.FastGaussianBlur', sigma=(0.1, 2.0), prob=0.5),
        ],
    ),
    dict(type='mmfgl.PackRegionViews'),
]


def build_pipelines() -> dict[str, Compose]:
    """The two pipelines, ``ours`` and ``mocov2``."""
    peer = mmengine.hub.get_config(
        'mmpretrain::_base_/datasets/imagenet_bs32_mocov2.py'
    ).train_pipeline
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return dict(ours=Compose(OURS), mocov2=Compose(peer))


def find_jpegs(data_root: str, limit: int) -> list[str]:
    """At most ``limit`` JPEGs of a folder and its sub-folders, evenly picked.

    Raises:
        ValueError: If the folder holds no JPEG.
    """
    data = UnlabelledImages(data_prefix=dict(img_path=data_root))
    paths = [data.get_data_info(i)['img_path'] for i in range(len(data))]
    paths = [p for p in paths if p.lower().endswith(('.jpg', '.jpeg'))]
    if not paths:
        raise ValueError(f'no JPEG in {data_root!r}')
    return paths[:: -(-len(paths) // limit)]


def make_jpegs(folder: str, count: int) -> None:
    """Write JPEGs with the detail of photographs: noise of many scales."""
    width, height = SIZE
    for index in range(count):
        rng = np.random.default_rng(index)
        img = np.zeros((height, width, 3), np.float32)
        for level in range(2, 9):
            shape = (height // 2**level + 2, width // 2**level + 2, 3)
            noise = rng.normal(0, 6 * level, shape).astype(np.float32)
            img += cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
        img = np.clip(img + 128, 0, 255).astype(np.uint8)
        cv2.imwrite(f'{folder}/{index:04d}.jpg', img)


def seconds_per_image(pipeline: Callable, paths: list[str]) -> float:
    """CPU time of one pass over the images, so that others do not count."""
    start = time.process_time()
    for path in paths:
        if pipeline(dict(img_path=path, skipped=[])) is None:
            raise ValueError(f'cannot read {path!r}')
    return (time.process_time() - start) / len(paths)


def measure_pipeline_ratio(
    data_root: str = '', repeats: int = 5, images: int = 32
) -> dict:
    """Images a second of both pipelines on one core, ours over MoCo v2's.

    Medians over ``repeats`` passes in turns, on at most ``images`` JPEGs of a
    folder, or as many made on the fly.
    """
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    pipelines = build_pipelines()
    try:
        with tempfile.TemporaryDirectory() as folder:
            if not data_root:
                make_jpegs(folder, images)
            paths = find_jpegs(data_root or folder, images)
            seconds = {name: [] for name in pipelines}
            for turn in range(repeats + 1):
                for name, pipeline in pipelines.items():
                    spent = seconds_per_image(pipeline, paths)
                    if turn:  # the first one warms up
                        seconds[name].append(spent)
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])
    ours, peer = (statistics.median(seconds[n]) for n in ('ours', 'mocov2'))
    return dict(
        pipeline_ratio=peer / ours,
        ours_images_per_second=1 / ours,
        mocov2_images_per_second=1 / peer,
        images=len(paths),
    )


def main(argv: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description='Two-view pipeline against that of MoCo v2'
    )
    parser.add_argument('--data-root', default='', help='folder of JPEGs')
    parser.add_argument('--images', type=int, default=32)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', required=True, help='folder of the results')
    add_debug_argument(parser)
    args = parser.parse_args(argv)
    with user_errors(args.debug):
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    result = measure_pipeline_ratio(args.data_root, args.repeats, args.images)
    table = markdown_table(
        ['pipeline', 'images/s/core'],
        [
            ['mmpretrain MoCo v2', result['mocov2_images_per_second']],
            ['mmfgl two views', result['ours_images_per_second']],
            ['ratio', result['pipeline_ratio']],
        ],
        digits=2,
    )
    print(table)
    write_results(args.out, result, table)


if __name__ == '__main__':
    main()
