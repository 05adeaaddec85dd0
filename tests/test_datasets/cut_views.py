"""Views of random images, for the tests of what cuts and packs them."""

import numpy as np

from mmfgl.datasets import RandomRegions, RegionProposer, RegionViews

VIEW = (64, 48)  # (width, height)
HEIGHT, WIDTH = 90, 120


class Recorder(RegionProposer):
    """Random or given regions to look up, labelled by their position."""

    def __init__(self, num_regions=300, boxes=()):
        self.inner = num_regions and RandomRegions(num_regions)
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)

    def propose(self, info, rng=None):
        self.info = info
        if self.inner:
            self.boxes = self.inner.propose(info, rng)
        return self.boxes

    def propose_rows(self, info, rng=None):
        boxes = self.propose(info, rng)
        labels = np.arange(len(boxes))
        return boxes, labels, 100 + labels


def recorder(proposed, boxes=()):
    return dict(type=Recorder, num_regions=proposed, boxes=boxes)


def transform(proposed=300, boxes=(), **options):
    options = dict(proposer=recorder(proposed, boxes), num_regions=6) | options
    return RegionViews(view_size=VIEW, **options)


def with_objects(boxes=(), proposed=0, **options):
    options = dict(max_objects=500) | options
    return transform(object_proposer=recorder(proposed, boxes), **options)


def cut(views, seed=0, size=(HEIGHT, WIDTH)):
    np.random.seed(seed)
    img = np.random.randint(0, 256, (*size, 3), np.uint8)
    return views(dict(img=img, img_path='x.jpg'))
