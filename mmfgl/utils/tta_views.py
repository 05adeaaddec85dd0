"""Test-time augmentation of a test: the config's own, or a ready-made one."""

from mmengine.config import Config, ConfigDict

from mmfgl.utils.checked_runner import leaf_datasets
from mmfgl.utils.config_checks import type_name
from mmfgl.utils.paths import get_config

VIEWS = ('flip', 'scales', 'scales_flip', 'slices', 'pyramid')
BASE_SCALE = (1333, 800)  # at which the bases test


def set_tta(cfg: Config, views: str | None = None) -> None:
    """Wrap model and test pipeline for test-time augmentation, in place.

    Args:
        cfg: Config of a detector.
        views: A ready-made one of :data:`VIEWS`, at the test scale of the
            config; by default ``tta_model`` and ``tta_pipeline`` of the
            config.

    Raises:
        ValueError: The config lacks these, or what the views need.
    """
    datasets = list(leaf_datasets(cfg.test_dataloader.dataset))
    if views is None:
        for key in ('tta_model', 'tta_pipeline'):
            if not cfg.get(key):
                raise ValueError(
                    f'--tta needs `{key}` in the config, and it has none. '
                    f'Choose --views, of {", ".join(VIEWS)}, or write your '
                    'own as docs/en/tta.md shows.'
                )
        tta_model = cfg.tta_model
        pipelines = [cfg.tta_pipeline] * len(datasets)
    else:
        mode = 'pyramid' if views == 'pyramid' else 'views'
        tta_model = roi_tta_model(cfg, mode)
        pipelines = [ready_made(x.pipeline, views) for x in datasets]
    cfg.model = ConfigDict(**tta_model, module=cfg.model)
    for dataset, pipeline in zip(datasets, pipelines, strict=True):
        dataset.pipeline = pipeline


def ready_made(test_pipeline: list[dict], views: str) -> list:
    """The pipeline of a base in which 1 is the scale of a test pipeline.

    Raises:
        ValueError: The test pipeline has no single ``Resize(scale=...)``.
    """
    resizes = [s for s in test_pipeline if type_name(s) == 'Resize']
    if len(resizes) != 1 or resizes[0].get('scale') is None:
        raise ValueError(
            f'the views {views!r} need a test pipeline with one '
            'Resize(scale=...), to know the test scale'
        )
    scale = resizes[0].scale
    scale = (scale, scale) if isinstance(scale, int) else scale
    pipeline = _base(views).tta_pipeline
    (augmentation,) = (s for s in pipeline if s['type'] == 'TestTimeAug')
    for step in (s for choices in augmentation.transforms for s in choices):
        if step['type'] == 'Resize':
            step.scale = tuple(
                round(own * side / base)
                for own, side, base in zip(
                    scale, step.scale, BASE_SCALE, strict=True
                )
            )
            step.keep_ratio = resizes[0].get('keep_ratio', False)
    return pipeline


def roi_tta_model(cfg: Config, mode: str) -> ConfigDict:
    """``tta_model`` of a mode: the config's, or else the ready-made base's."""
    base = 'pyramid' if mode == 'pyramid' else 'scales_flip'
    for source in (cfg, _base(base)):
        model = ConfigDict(source.get('tta_model') or {})
        model.pop('_scope_', None)  # of a config below mmfgl::
        own = type_name(model), model.setdefault('mode', 'views')
        if own == ('RoITTAModel', mode):
            break
    return model


def _base(name: str) -> Config:
    return get_config(f'_base_/tta/{name}.py')
