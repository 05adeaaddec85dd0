"""The contestants of tta.py: one detector, tested in four ways."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

from mmdet.models.test_time_augs import DetTTAModel
from mmdet.registry import MODELS
from mmengine.config import Config, ConfigDict
from torch import nn
from tta_config import BASES

from mmfgl.engine.hooks import ChannelsLastHook
from mmfgl.models.test_time_augs import RoITTAModel, RoITTAOptions
from mmfgl.utils.checks import check_test_checkpoint

# https://mmdetection.readthedocs.io/en/latest/user_guides/test.html
DET_TTA_CFG = ConfigDict(
    nms=dict(type='nms', iou_threshold=0.5), max_per_img=100
)


def build_detector(cfg: Config, checkpoint: dict, device: str) -> nn.Module:
    """Build the detector and load its weights, all of them.

    Args:
        cfg: Config of the detector.
        checkpoint: Its checkpoint.
        device: Where it runs.

    Returns:
        The detector in evaluation mode.

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

    Args:
        cfg: Its ``tta_model``, if it is a RoITTAModel, gives the options of
            its mode; those of the other mode are the ready-made base's.
        detector: The detector.

    Returns:
        The contestants; without ``det_tta`` if the detector predicts masks,
        which DetTTAModel refuses.
    """
    arms = dict(plain=detector)
    if getattr(detector, 'with_mask', False):
        print('DetTTAModel is left out: it does not know masks.')
    else:
        arms['det_tta'] = DetTTAModel(tta_cfg=DET_TTA_CFG, module=detector)
    for mode, base in (('views', 'scales_flip'), ('pyramid', 'pyramid')):
        options = _options(cfg, mode) or _options(
            Config.fromfile(BASES / f'{base}.py'), mode
        )
        arms[f'roi_tta_{mode}'] = RoITTAModel(detector, **options)
    return arms


def changed_options(model: RoITTAModel) -> dict:
    """Options of a RoITTAModel that are not the defaults."""
    return {
        field.name: value
        for field in fields(RoITTAOptions)
        if (value := getattr(model.options, field.name)) != field.default
    }


def _options(cfg: Config, mode: str) -> dict | None:
    """Options in ``cfg.tta_model`` if it is a RoITTAModel of that mode."""
    options = dict(cfg.get('tta_model', {}))
    kind = str(options.pop('type', '')).split('.')[-1]
    options = {'mode': 'views', **options}
    same = kind == 'RoITTAModel' and options['mode'] == mode
    return options if same else None
