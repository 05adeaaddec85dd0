"""Pictures of detections beside the ground truth."""

from collections.abc import Sequence

import mmcv
import numpy as np
import torch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import DATASETS
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.structures import InstanceData


def detection_pictures(
    config: str | Config,
    checkpoint: str,
    indices: Sequence[int],
    score_thr: float = 0.3,
    height: int = 480,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Detect objects in images of a config's test set and draw them.

    Args:
        config: Detection config.
        checkpoint: Checkpoint of it.
        indices: Which images of the test set.
        score_thr: Detections below this score are not drawn.
        height: Height of the pictures; small images are enlarged before
            lines and labels are drawn, so that these stay thin.

    Returns:
        For each image a pair of (height, W, 3) uint8 RGB arrays: the ground
        truth and the detections.
    """
    cfg = Config.fromfile(config) if isinstance(config, str) else config
    model = init_detector(cfg, checkpoint, palette='random', device='cpu')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = model.dataset_meta
    pictures = []
    for index in indices:
        info = dataset.get_data_info(index)
        image = mmcv.imread(info['img_path'])  # BGR, as detectors expect
        sample = inference_detector(model, image)
        sample.gt_instances = _ground_truth(info)
        scale = height / image.shape[0]
        sample.gt_instances.bboxes *= scale
        sample.pred_instances.bboxes *= scale
        width = round(image.shape[1] * scale)
        canvas = mmcv.imresize(image[..., ::-1], (width, height))
        pair = []
        for truth in (True, False):
            visualizer.add_datasample(
                'picture',
                canvas,
                sample,
                draw_gt=truth,
                draw_pred=not truth,
                pred_score_thr=score_thr,
            )
            pair.append(visualizer.get_image())
        pictures.append(tuple(pair))
    return pictures


def _ground_truth(info: dict) -> InstanceData:
    """Boxes and labels of a dataset record, in original pixels."""
    objects = [item for item in info['instances'] if not item['ignore_flag']]
    boxes = torch.tensor([item['bbox'] for item in objects]).float()
    return InstanceData(
        bboxes=boxes.reshape(-1, 4),
        labels=torch.tensor([item['bbox_label'] for item in objects]).long(),
    )


def side_by_side(panels: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Join pictures of equal height in a row on white.

    Args:
        panels: (H, W_i, 3) uint8 arrays.
        gap: White pixels between them.

    Returns:
        One (H, W, 3) uint8 array.
    """
    white = np.full((panels[0].shape[0], gap, 3), 255, dtype=np.uint8)
    row = [part for panel in panels for part in (panel, white)]
    return np.concatenate(row[:-1], axis=1)
