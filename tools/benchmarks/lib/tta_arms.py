"""The contestants of tta.py: one detector, tested in several ways."""

from types import SimpleNamespace

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.models.utils import weighted_boxes_fusion
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData
from torch import nn

from mmfgl.engine.hooks import ChannelsLastHook
from mmfgl.models.test_time_augs import RoITTAModel
from mmfgl.utils.tta_views import roi_tta_model
from mmfgl.utils.weights import check_test_checkpoint

# https://mmdetection.readthedocs.io/en/latest/user_guides/test.html
DET_TTA_CFG = ConfigDict(
    nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
)


class DetTTAWithWBF(DetTTAModel):
    """DetTTAModel with weighted boxes fusion (arXiv 1910.13302) for its NMS.

    Boxes of all views at an IoU above 0.55 become one; its score falls with
    the share of views that lack it, as that of mmdet's own ensembles.
    """

    def merge_preds(self, data_samples_list: list) -> list:
        """Merge the finished predictions of the views of each image.

        Args:
            data_samples_list: For each image the data sample of each view.

        Returns:
            The data sample of the first view of each image, with the merged
            ``pred_instances``.
        """
        merged = []
        for views in data_samples_list:
            found = [view.pred_instances for view in views]
            boxes, scores, labels = weighted_boxes_fusion(
                [
                    self.merge_aug_bboxes([f.bboxes], None, [view.metainfo])
                    for f, view in zip(found, views, strict=True)
                ],
                [f.scores for f in found],
                [f.labels for f in found],
            )
            first, like = views[0], found[0].bboxes
            first.pred_instances = InstanceData(
                bboxes=boxes.reshape(-1, 4).to(like),
                scores=scores.to(like),
                labels=labels.to(found[0].labels),
            )[: self.tta_cfg.max_per_img]
            merged.append(first)
        return merged


def build_detector(cfg: Config, checkpoint: dict, device: str) -> nn.Module:
    """Build the detector, in evaluation mode, and load all its weights.

    Raises:
        RuntimeError: If the checkpoint does not fit.
    """
    detector = MODELS.build(cfg.model)
    check_test_checkpoint(detector, checkpoint)
    for hook in cfg.get('custom_hooks', []):
        if str(hook['type']).endswith('ChannelsLastHook'):
            ChannelsLastHook().before_run(SimpleNamespace(model=detector))
    return detector.to(device).eval()


def build_arms(cfg: Config, detector: nn.Module) -> dict[str, nn.Module]:
    """Build the contestants around one detector.

    The ``tta_model`` of the config, if it is a RoITTAModel, gives the options
    of its mode; those of the other mode are the ready-made base's. Contestants
    that do not fit the detector are left out and printed with the reason.
    """
    arms = dict(plain=detector)
    if getattr(detector, 'with_mask', False):
        print('DetTTAModel is left out: it does not know masks.')
    else:
        for name, kind in (('', DetTTAModel), ('_wbf', DetTTAWithWBF)):
            arms[f'det_tta{name}'] = kind(DET_TTA_CFG, module=detector)
    views = roi_tta_options(cfg, 'views')
    arms['roi_tta_views'] = RoITTAModel(detector, **views)
    try:
        arms['roi_tta_pyramid'] = RoITTAModel(
            detector, **roi_tta_options(cfg, 'pyramid')
        )
    except ValueError as error:
        print(f'RoITTAModel, pyramid, is left out: {error}')
    if 'slices_pipeline' in cfg:
        arms['roi_tta_slices'] = RoITTAModel(detector, **views)
    return arms


def roi_tta_options(cfg: Config, mode: str) -> dict:
    """Options of a mode: of the config, or else of the ready-made base."""
    options = roi_tta_model(cfg, mode).to_dict()
    options.pop('type')
    return options
