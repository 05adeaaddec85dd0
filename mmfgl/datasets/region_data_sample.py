"""Data element of one unlabelled image with its region views."""

from mmengine.structures import BaseDataElement


class RegionDataSample(BaseDataElement):
    """The regions of one image in its V augmented views.

    Data fields (tensors, moved to the model's device with the batch):

    - ``boxes``: (V, N, 4) regions, exact, in pixels of each view.
    - ``jittered``: (V, N, 4) the same regions, jittered for each view.
    - ``objects``: (M, 5) pseudo ground truth of all views, only with an
      object proposer: index of the view, then the box (x1, y1, x2, y2) in
      pixels of that view; sorted by view, M may be 0.
    - ``object_labels``: (M,) int64 pseudo-labels of the objects, from 0.
    - ``objects``: (M, 5) float rows (view index, x1, y1, x2, y2), pseudo
      ground truth of an objectness training, in pixels of the row's view; M
      may be 0. Optional.
    - ``object_labels``: (M,) long, their pseudo-classes, 0 where unknown.

    Meta fields:

    - ``img_path``: the image's file.
    - ``affines``: (V, 2, 3) array, image pixels to view pixels.
    - ``skipped``: files that could not be read and that this image stands in
      for (usually empty).
    """
