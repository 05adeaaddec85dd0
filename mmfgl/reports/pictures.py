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

    ``indices`` say which images of the test set. They are resized to
    ``height`` before lines and labels are drawn, so that these stay thin.
    Detections below ``score_thr`` are not drawn.

    Returns:
        (truth, detections) of each image: (height, W, 3) uint8 RGB arrays.
    """
    model = init_detector(config, checkpoint, palette='random', device='cpu')
    dataset = DATASETS.build(model.cfg.test_dataloader.dataset)
    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = model.dataset_meta
    pictures = []
    for index in indices:
        info = dataset.get_data_info(index)
        image = mmcv.imread(info['img_path'])  # BGR, as detectors expect
        sample = inference_detector(model, image)
        scale = height / image.shape[0]
        sample.pred_instances.bboxes *= scale
        truth = [item for item in info['instances'] if not item['ignore_flag']]
        boxes = torch.tensor([item['bbox'] for item in truth]).float()
        sample.gt_instances = InstanceData(
            bboxes=boxes.view(-1, 4) * scale,
            labels=torch.tensor([i['bbox_label'] for i in truth]).long(),
        )
        width = round(image.shape[1] * scale)
        canvas = mmcv.imresize(image[..., ::-1], (width, height))
        visualizer.add_datasample(
            'picture', canvas, sample, pred_score_thr=score_thr
        )
        # mmdet draws the truth at the left, the detections at the right
        pictures.append(tuple(np.hsplit(visualizer.get_image(), 2)))
    return pictures


def side_by_side(panels: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Join (H, W_i, 3) uint8 pictures in a row, ``gap`` white pixels apart."""
    white = np.full((panels[0].shape[0], gap, 3), 255, dtype=np.uint8)
    row = [part for panel in panels for part in (panel, white)]
    return np.concatenate(row[:-1], axis=1)
