"""A data set's pipeline in which one image never stops a run."""

from collections.abc import Callable, Iterator, Sequence
from logging import WARNING
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement

from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.datasets.transforms.loading import LoadImage
from mmfgl.datasets.unlabelled_images import UnlabelledImages
from mmfgl.utils.checked_runner import whole_dataset
from mmfgl.utils.names import printable

BLANK = 'mmfgl_blank'  # key that asks the loading transform for a blank image


class GuardedPipeline:
    """The pipeline of a detection data set, guarded against single images.

    MMCV's ``LoadImageFromFile`` is exchanged for :class:`LoadImage`. In
    training, an image that cannot be read, or that OpenCV cannot work on
    (too thin to be resized, say), gives ``None``, for which MMEngine's data
    sets take another one; that one's data sample carries file and reason in
    its ``skipped`` field. In testing, a blank image takes its place, and the
    data sample is marked ``unreadable`` besides, so that its detections can
    be dropped. Any other error of the pipeline is raised with the file's name.

    Args:
        pipeline: The data set's pipeline.
        test_mode: Whether it is for testing.
    """

    MAX_IN_A_ROW = 100

    def __init__(self, pipeline: Callable, test_mode: bool) -> None:
        if isinstance(pipeline, Compose):
            _use_own_reader(pipeline)
        self.pipeline = pipeline
        self.test_mode = test_mode
        self._skipped: list[tuple[str, str]] = []
        self._told: set[tuple[str, str]] = set()
        self._in_a_row = 0

    def __call__(self, info: dict) -> Any:
        """Run the pipeline.

        Raises:
            RuntimeError: For another reason than the image, or if
                ``MAX_IN_A_ROW`` images in a row cannot be used.
        """
        path = info.get('img_path', '')
        try:
            data = self.pipeline(dict(info))
        except (UnreadableImageError, OSError, cv2.error) as error:
            self._skipped.append((path, reason_of(error)))
            self._in_a_row += 1
            if self._in_a_row >= self.MAX_IN_A_ROW:
                raise RuntimeError(
                    f'{self._in_a_row} images in a row could not be '
                    f'read, the last is {path!r} ({reason_of(error)}): check '
                    'the files'
                ) from error
            if not self.test_mode:
                return None
            try:
                data = self.pipeline(dict(info, **{BLANK: True}))
            except Exception:  # a loading transform that is not ours
                raise _named(error, path) from error
        except Exception as error:
            raise _named(error, path) from error
        return self._mark(data)

    def _mark(self, data: Any) -> Any:
        """Hand what was skipped down with the next data sample.

        Where there is none (images that Mosaic is to mix), say it at once.
        """
        self._in_a_row = 0
        sample = next(data_samples(data), None)
        if sample is None:
            for path, reason in set(self._skipped) - self._told:
                text = f'skipped unreadable image {printable(path)}: {reason}'
                print_log(text, logger='current', level=WARNING)
            self._told.update(self._skipped)
            self._skipped = []
        elif self._skipped:
            fields = dict(skipped=self._skipped, unreadable=self.test_mode)
            self._skipped = []
            for sample in data_samples(data):  # more than one with TTA
                sample.set_metainfo(fields)
                fields = dict(unreadable=self.test_mode)
        return data


def _named(error: Exception, path: str) -> RuntimeError:
    """An error of a pipeline, with the image's name."""
    return RuntimeError(
        f'the data pipeline failed on {printable(path)}: {reason_of(error)}'
    )


def reason_of(error: Exception) -> str:
    """Why an image could not be used, on one line."""
    reason = getattr(error, 'reason', None)
    return reason or f'{type(error).__name__}: {" ".join(str(error).split())}'


def data_samples(data: Any) -> Iterator[BaseDataElement]:
    """Data samples of a batch or an item, however nested."""
    if isinstance(data, BaseDataElement):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from data_samples(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from data_samples(value)


def guard_images(dataset: Any, test_mode: bool) -> None:
    """Guard the pipelines of a data set and of those that it wraps.

    :class:`UnlabelledImages` guards itself.
    """
    dataset = whole_dataset(dataset)
    wrapped = getattr(dataset, 'dataset', None)
    for inner in (*getattr(dataset, 'datasets', ()), wrapped):
        if inner is not None:
            guard_images(inner, test_mode)
    pipeline = getattr(dataset, 'pipeline', None)
    guarded = isinstance(dataset, UnlabelledImages)
    guarded |= isinstance(pipeline, GuardedPipeline)
    if callable(pipeline) and not guarded:
        dataset.pipeline = GuardedPipeline(pipeline, test_mode)


def inference_pipeline(steps: Sequence[dict]) -> Compose:
    """A pipeline outside of a runner, which reads images as one does.

    Args:
        steps: Configs of its transforms.
    """
    pipeline = Compose(steps)
    _use_own_reader(pipeline)
    return pipeline


def _use_own_reader(pipeline: Compose) -> None:
    """Exchange MMCV's loading transform for ours, in place."""
    pipeline.transforms = list(map(_exchange, pipeline.transforms))


class _LoadOrBlank(BaseTransform):
    """A :class:`LoadImage`; if asked for, a blank image in its place.

    It has the size of the annotations where that is an image's usual one, so
    that masks fit it.
    """

    def __init__(self, load: LoadImage) -> None:
        self.load = load

    def transform(self, results: dict) -> dict:
        """Load ``img_path``; see the class."""
        if not results.pop(BLANK, False):
            return self.load.transform(results)
        size = results.get('height'), results.get('width')
        if None in size or not 32 <= min(size) <= max(size) <= 4096:
            size = 64, 64
        img = np.zeros((*size, 3), np.uint8)
        return dict(results, img=img, img_shape=size, ori_shape=size)


def _exchange(transform: Callable) -> Callable:
    """MMCV's loading transform, with its defaults, for ours."""
    if isinstance(transform, LoadImage):
        return _LoadOrBlank(transform)
    if type(transform) is not LoadImageFromFile:
        return transform
    usual = (
        transform.color_type == 'color'
        and transform.imdecode_backend == 'cv2'
        and transform.file_client_args is None
        and not (transform.to_float32 or transform.ignore_empty)
    )
    if not usual:
        return transform
    return _LoadOrBlank(LoadImage(backend_args=transform.backend_args))
