"""Data element of one unlabelled image with its region views."""

from mmengine.structures import BaseDataElement


class RegionDataSample(BaseDataElement):
    """The regions of one image in its V augmented views.

    Data fields (tensors, moved to the model's device with the batch):

    - ``boxes``: (V, N, 4) regions, exact, in pixels of each view.
    - ``jittered``: (V, N, 4) the same regions, jittered for each view.

    Meta fields:

    - ``img_path``: the image's file.
    - ``affines``: (V, 2, 3) array, image pixels to view pixels.
    - ``skipped``: files that could not be read and that this image stands in
      for (usually empty).
    """
