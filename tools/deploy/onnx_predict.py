#!/usr/bin/env python
"""Find objects with a model of `mmfgl export`; needs no PyTorch.

    python tools/deploy/onnx_predict.py MODEL.onnx IMAGE ... --out FOLDER

Needs numpy, onnxruntime and opencv-python(-headless). FOLDER gets a picture
of each image; predictions.json there has boxes (x1, y1, x2, y2) in pixels of
the image, scores and class names. Copy this file to wherever the model goes.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


class Detector:
    """A detector of an ONNX file, with the preprocessing that it states.

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        providers = onnxruntime.get_available_providers()
        self.session = onnxruntime.InferenceSession(path, providers=providers)
        facts = self.session.get_modelmeta().custom_metadata_map
        self.classes = json.loads(facts['classes'])
        self.preprocessing = json.loads(facts['preprocessing'])

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) BGR image -> (1, 3, h, w) input of the network."""
        settings = self.preprocessing
        height, width = image.shape[:2]
        size = tuple(settings['scale'])
        if settings['keep_ratio']:  # fit it into the scale, upright or not
            zoom = min(
                max(size) / max(height, width), min(size) / min(height, width)
            )
            size = tuple(
                max(1, int(side * zoom + 0.5)) for side in (width, height)
            )
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        if settings['rgb']:
            image = image[..., ::-1]
        mean, std = (np.float32(settings[key]) for key in ('mean', 'std'))
        image = (image.astype(np.float32) - mean) / std
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])

    def __call__(
        self, image: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Detect the objects of an image.

        Args:
            image: (H, W, 3) BGR uint8 image.

        Returns:
            (N, 4) boxes (x1, y1, x2, y2) in pixels of the image, (N,) scores,
            highest first, and (N,) class indices.
        """
        given = self.prepare(image)
        boxes, scores, labels = self.session.run(None, {'image': given})
        zoom = np.divide(given.shape[:1:-1], image.shape[1::-1])
        return boxes / np.tile(zoom, 2).astype(np.float32), scores, labels


def draw(
    image: np.ndarray,
    boxes: np.ndarray,
    scores: np.ndarray,
    names: list[str],
) -> None:
    """Draw boxes with their names and scores, in place."""
    for box, score, name in zip(boxes, scores, names):
        x1, y1, x2, y2 = (int(round(float(value))) for value in box)
        cv2.rectangle(image, (x1, y1), (x2, y2), (0, 140, 255), 2)
        text, font = f'{name} {score:.2f}', cv2.FONT_HERSHEY_SIMPLEX
        (width, height), _ = cv2.getTextSize(text, font, 0.5, 1)
        top = max(y1, height + 6)
        corner = (x1 + width + 4, top)
        cv2.rectangle(image, (x1, top - height - 6), corner, (0, 140, 255), -1)
        cv2.putText(
            image,
            text,
            (x1 + 2, top - 4),
            font,
            0.5,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )


def main() -> None:
    """Predict the images of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='file of `mmfgl export`')
    parser.add_argument('images', nargs='+', help='image files')
    parser.add_argument('--out', default='predictions', help='folder')
    parser.add_argument('--score-thr', type=float, default=0.3)
    args = parser.parse_args()
    if not Path(args.model).is_file():
        sys.exit(f'error: no such file: {args.model}')
    detector, out = Detector(args.model), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    predictions = {}
    for path in args.images:
        image = cv2.imread(path, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None or image.dtype != np.uint8:
            why = 'unreadable' if image is None else 'more than 8 bits a value'
            print(f'skipped, {why}: {path}', file=sys.stderr)
            continue
        boxes, scores, labels = detector(image)
        shown = scores >= args.score_thr
        boxes, scores = boxes[shown], scores[shown]
        names = [detector.classes[label] for label in labels[shown]]
        predictions[path] = dict(
            boxes=boxes.round(2).tolist(),
            scores=scores.round(4).tolist(),
            classes=names,
        )
        draw(image, boxes, scores, names)
        name = f'{len(predictions):04d}_{Path(path).stem}.jpg'
        cv2.imwrite(str(out / name), image)
        print(f'{path}: {len(names)} objects')
    file = out / 'predictions.json'
    file.write_text(json.dumps(predictions, indent=1), encoding='utf-8')
    print(f'wrote {file}')


if __name__ == '__main__':
    main()
