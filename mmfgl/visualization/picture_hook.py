"""Pictures of predictions: one an image, whatever names and classes."""

from __future__ import annotations

import copy
import os.path as osp
from argparse import Namespace
from collections.abc import Sequence

import cv2
import mmcv
from mmcv.ops import batched_nms
from mmdet.engine.hooks import DetVisualizationHook
from mmdet.engine.hooks.utils import trigger_visualization_hook
from mmdet.structures import DetDataSample
from mmdet.visualization.palette import get_palette
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from mmfgl.datasets.image_reader import UnreadableImageError, read_image
from mmfgl.registry import HOOKS
from mmfgl.utils.checked_runner import leaf_datasets


@HOOKS.register_module()
class PictureHook(DetVisualizationHook):
    """:class:`mmdet.DetVisualizationHook` that loses no picture.

    Pictures keep the folders of their images below the data sets' common
    folder (mmdet names them by their last part alone, so that
    ``cam0/1.jpg`` and ``cam1/1.jpg`` overwrite each other); an image that is
    listed twice gets its id into the name. More classes than the data set's
    palette has colours get random ones, always the same. Predictions are
    drawn from ``score_thr`` on. As in mmdet, the main process draws.

    Args:
        nms_iou: Of predictions that overlap by more than this IoU, whatever
            their classes, draw the one of highest score alone: look-alike
            classes are often found in one place. ``None`` draws all. What is
            evaluated stays the same.
        **kwargs: Arguments of :class:`mmdet.DetVisualizationHook`.

    Raises:
        ValueError: If ``nms_iou`` is out of range.
    """

    def __init__(self, nms_iou: float | None = None, **kwargs) -> None:
        if nms_iou is not None and not 0 < nms_iou <= 1:
            raise ValueError(
                f'nms_iou must lie in (0, 1] or be None, got {nms_iou}'
            )
        super().__init__(**kwargs)
        self.nms_iou = nms_iou
        self._written: set[str] = set()
        self._root = ''

    def before_val_epoch(self, runner: Runner) -> None:
        """See that there are enough colours."""
        _extend_palette(runner.visualizer)

    def before_test_epoch(self, runner: Runner) -> None:
        """See that there are enough colours; find the images' folder."""
        _extend_palette(runner.visualizer)
        self._written.clear()
        self._root = _common_folder(runner.test_dataloader.dataset)

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """As in mmdet: draw the first image of every ``interval``."""
        step = runner.iter + batch_idx
        if self.draw and step % self.interval == 0:
            self._draw(runner, outputs[0], 'val_img', step)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict,
        outputs: Sequence[DetDataSample],
    ) -> None:
        """Draw the images of a batch."""
        for sample in outputs if self.draw else ():
            self._test_index += 1
            out_file = None
            if self.test_out_dir is not None:
                folder = osp.join(runner.work_dir, runner.timestamp)
                name = self.picture_name(sample)
                out_file = osp.join(folder, self.test_out_dir, name)
            self._draw(runner, sample, 'test_img', self._test_index, out_file)

    def _draw(
        self,
        runner: Runner,
        sample: DetDataSample,
        title: str,
        step: int,
        out_file: str | None = None,
    ) -> None:
        """Draw an image, if it can be read."""
        path = sample.img_path
        try:
            image = read_image(path, backend_args=self.backend_args)
        except UnreadableImageError as error:
            runner.logger.warning(f'no picture of {error}')
            return
        runner.visualizer.add_datasample(
            osp.basename(path) if self.show else title,
            mmcv.bgr2rgb(image),
            data_sample=self.without_duplicates(sample),
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )

    def picture_name(self, sample: DetDataSample) -> str:
        """Where to put the picture of an image, below the show dir."""
        path = osp.abspath(sample.img_path)
        name = osp.relpath(path, self._root or osp.dirname(path))
        if name.startswith(osp.pardir):  # beside all data sets
            name = osp.splitdrive(path)[1].lstrip(osp.sep)
        if name in self._written:
            stem, extension = osp.splitext(name)
            name = f'{stem}_id{sample.img_id}{extension}'
        self._written.add(name)
        return writable(name)

    def without_duplicates(self, sample: DetDataSample) -> DetDataSample:
        """The sample with what is to be drawn; the given one is left."""
        found = sample.get('pred_instances')
        if found is None or self.nms_iou is None or len(found) == 0:
            return sample
        _, kept = batched_nms(
            found.bboxes.float(),
            found.scores.float(),
            found.labels,
            dict(type='nms', iou_threshold=self.nms_iou),
            class_agnostic=True,
        )
        sample = copy.copy(sample)
        sample.pred_instances = found[kept]
        return sample


def writable(name: str) -> str:
    """A file name, with ``.png`` if its ending is no image's to write."""
    # OpenCV dies of a whole name that is no UTF-8
    known = cv2.haveImageWriter(osp.splitext(name)[1])
    return name if known else f'{name}.png'


def show_predictions(cfg: Config, args: Namespace) -> None:
    """Let a test draw its predictions with :class:`PictureHook`, in place.

    Configs that name mmdet's hook, or none, get ours with their settings.

    Args:
        cfg: The config.
        args: ``show``, ``show_dir`` and ``wait_time`` of the command line.
    """
    ours = dict(type='mmfgl.PictureHook')
    hook = cfg.get('default_hooks', {}).get('visualization') or ours
    if hook['type'] == 'DetVisualizationHook':
        hook = {**hook, **ours}
    cfg.merge_from_dict({'default_hooks.visualization': hook})
    if cfg.get('visualizer') is None:
        cfg.visualizer = dict(type='DetLocalVisualizer')
    trigger_visualization_hook(cfg, args)


def _extend_palette(visualizer: Visualizer) -> None:
    """Give all classes a colour."""
    meta = visualizer.dataset_meta or {}
    try:
        get_palette(meta.get('palette'), len(meta.get('classes') or ()))
    except AssertionError:  # more classes than colours
        visualizer.dataset_meta = {**meta, 'palette': 'random'}


def _common_folder(dataset) -> str:
    """The folder that holds the images of a data set and its parts."""
    folders = []
    for part in leaf_datasets(dataset):
        prefix = getattr(part, 'data_prefix', None) or {}
        folder = prefix.get('img') or prefix.get('img_path')
        if folder and '://' not in folder:
            folders.append(osp.abspath(folder))
    return osp.commonpath(folders) if folders else ''
