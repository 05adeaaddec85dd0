"""Data element of one unlabelled image with its region views."""

from mmengine.structures import BaseDataElement


class RegionDataSample(BaseDataElement):
    """The regions of one image in its V views.

    Data fields (tensors, moved to the model's device with the batch):

    - ``boxes``: (V, N, 4) regions in pixels of each view; N may be 0.
    - ``rows``: (N,) int64 rows of those regions in their region file, -1 for
      boxes of none.
    - ``objects``: (M, 5) float32 rows (view index, x1, y1, x2, y2), pseudo
      ground truth of objectness pretraining, in pixels of the row's view;
      sorted by view, M may be 0. Only with an object proposer.
    - ``object_labels``: (M,) int64 pseudo-classes of the objects, 0 where
      unknown.
    - ``object_rows``: (M,) int64 rows of the objects in their region file, -1
      for boxes of none.

    Meta fields:

    - ``img_path``: the image's file.
    - ``num_objects``: objects of each view, V numbers. Beside the tensors,
      since whoever counts on a GPU makes the host wait.
    - ``max_label``: largest of the object labels, -1 without objects.
    - ``affines``: (V, 2, 3) array, image pixels to view pixels.
    - ``skipped``: (file, reason) of those that could not be read and that
      this image stands in for (usually empty).
    """
