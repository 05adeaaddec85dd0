"""Cut a test image into parts."""

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from mmfgl.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ImageSlice(BaseTransform):
    """Show one part of a test image, for small objects (arXiv 2202.06934).

    The choices of one step of ``TestTimeAug`` for
    :class:`mmfgl.models.test_time_augs.RoITTAModel`: resized like the whole
    image, a part is shown larger. ``slice_window`` has to be among the
    ``meta_keys`` of ``PackDetInputs``.

    Args:
        window: (x1, y1, x2, y2) of the part, in fractions of width and height
            of the image; (0, 0, 1, 1) is all of it.

    Raises:
        ValueError: If the window is empty or leaves the image.
    """

    def __init__(self, window: Sequence[float]) -> None:
        x1, y1, x2, y2 = window
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError(
                'window must be (x1, y1, x2, y2) in fractions of the image, '
                f'0 <= x1 < x2 <= 1 and the same for y, got {tuple(window)}'
            )
        self.window = tuple(window)

    def transform(self, results: dict) -> dict:
        """Cut ``img``, (H, W, 3) as it was loaded; sets its ``img_shape``.

        Adds ``slice_window``: (x1, y1, x2, y2) in original pixels, whole
        numbers.

        Raises:
            ValueError: If other transforms came before.
        """
        late = {'scale_factor', 'flip', 'gt_bboxes', 'slice_window'}
        if early := late & set(results):
            raise ValueError(
                'ImageSlice comes right after the image is loaded, before '
                'Resize, RandomFlip and LoadAnnotations; found '
                f'{sorted(early)}'
            )
        height, width = results['img'].shape[:2]
        sides = (width, height) * 2
        x1, y1, x2, y2 = (
            round(share * side)
            for share, side in zip(self.window, sides, strict=True)
        )
        # at least one pixel
        x1, y1 = min(x1, width - 1), min(y1, height - 1)
        x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
        results['img'] = results['img'][y1:y2, x1:x2]
        results['img_shape'] = results['img'].shape[:2]
        results['slice_window'] = (x1, y1, x2, y2)
        return results
