import copy
import json

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.fileio import load

from mmfgl.evaluation import FGLMetric, confused_pairs, tide_report

CLASSES = ('cat', 'lynx', 'dog')
EXTRA = (
    'agnostic_mAP agnostic_mAP_50 agnostic_mAP_75 class_accuracy box_mse '
    'num_matched tide_cls tide_loc tide_both tide_dupe tide_bkg tide_miss '
    'error_counts most_confused'
)
BOX, FAR = (10, 10, 30, 30), (60, 10, 80, 30)


def write_coco(path, objects):
    """Objects of each image: (box, category index, crowd)."""
    annotations = [
        dict(
            image_id=image,
            category_id=10 + label,
            bbox=[x1, y1, x2 - x1, y2 - y1],
            area=(x2 - x1) * (y2 - y1),
            segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
            iscrowd=crowd,
        )
        for image, rows in enumerate(objects)
        for (x1, y1, x2, y2), label, crowd in rows
    ]
    annotations = [dict(a, id=i + 1) for i, a in enumerate(annotations)]
    size = dict(width=100, height=50)
    images = [dict(size, id=i, file_name='x') for i in range(len(objects))]
    categories = [dict(id=10 + i, name=n) for i, n in enumerate(CLASSES)]
    content = dict(images=images, annotations=annotations)
    path.write_text(json.dumps(content | dict(categories=categories)))


def samples_of(predictions, masks=False):
    """Data samples of predictions (box, score, label) by image."""
    samples = []
    for image, rows in enumerate(predictions):
        found = dict(
            bboxes=torch.tensor([r[0] for r in rows]).float().reshape(-1, 4),
            scores=torch.tensor([r[1] for r in rows]).float(),
            labels=torch.tensor([r[2] for r in rows]).long(),
        )
        if masks:
            found['masks'] = torch.zeros(len(rows), 50, 100).bool()
            boxes = found['bboxes'].int()
            for mask, (x1, y1, x2, y2) in zip(found['masks'], boxes):
                mask[y1:y2, x1:x2] = True
        sample = dict(img_id=image, ori_shape=(50, 100))
        samples.append(dict(sample, pred_instances=found))
    return samples


def evaluate(samples, cls=FGLMetric, classes=CLASSES, **options):
    """The results without the prefix ``coco/``."""
    metric = cls(**options)
    metric.dataset_meta = dict(classes=classes)
    for sample in copy.deepcopy(samples):
        metric.process({}, [sample])
    results = metric.evaluate(len(samples))
    return {key.removeprefix('coco/'): v for key, v in results.items()}


@pytest.fixture
def measure(tmp_path):
    def measure(objects, predictions, masks=False, **options):
        write_coco(tmp_path / 'gt.json', objects)
        options['ann_file'] = str(tmp_path / 'gt.json')
        return evaluate(samples_of(predictions, masks), **options)

    return measure


def random_case(seed=0, num_images=12):
    rng = np.random.default_rng(seed)
    objects, predictions = [], []
    for image in range(num_images):
        # some images without objects, some without predictions
        count = 0 if image % 5 == 0 else int(rng.integers(1, 6))
        corner = rng.uniform(0, 60, (count, 2)) * (1, 0.5)
        boxes = np.hstack([corner, corner + rng.uniform(8, 25, (count, 2))])
        labels = rng.integers(0, 2, count)  # no dog
        crowds = (rng.random(count) < 0.1).astype(int)
        truth = boxes.tolist(), labels.tolist(), crowds.tolist()
        objects.append(list(zip(*truth, strict=True)))
        repeats = 0 if image % 7 == 3 else 3
        boxes, labels = np.tile(boxes, (repeats, 1)), np.tile(labels, repeats)
        boxes = boxes + rng.uniform(-4, 4, boxes.shape)  # sides stay positive
        wrong = rng.random(len(labels)) < 0.3
        labels = np.where(wrong, rng.integers(0, 3, len(labels)), labels)
        scores = rng.random(len(labels))
        found = boxes.tolist(), scores.tolist(), labels.tolist()
        predictions.append(list(zip(*found, strict=True)))
    return objects, predictions


@pytest.mark.parametrize(
    'options',
    [{}, dict(classwise=True), dict(metric=['bbox', 'segm'])]
    + [dict(metric_items=['mAP', 'AR@100'])],
    ids=str,
)
def test_every_result_of_coco_metric_stays(measure, options):
    case = (*random_case(), 'segm' in options.get('metric', ()))
    expected = measure(*case, cls=CocoMetric, **options)
    seen = measure(*case, **options)
    assert list(seen) == [*expected, *EXTRA.split()]
    for key in expected:  # CocoMetric: nan for a class without objects
        value = -1 if np.isnan(expected[key]) else expected[key]
        assert seen[key] == pytest.approx(value)


def test_ap_is_that_of_coco(measure, monkeypatch):
    reports = []

    def record(*args):
        reports.append(tide_report(*args))
        return reports[-1]

    monkeypatch.setattr('mmfgl.evaluation.fgl_metric.tide_report', record)
    objects, predictions = random_case(seed=1)
    predictions[0] = [(FAR, 0.5, 0)]  # a false alarm
    seen = measure(objects, predictions)
    assert 0.1 < reports[0].ap < 0.9
    assert seen['bbox_mAP_50'] == pytest.approx(reports[0].ap, abs=6e-4)
    assert all(seen['error_counts'].values())
    # class-agnostic: as if all were of one class
    objects = [[(box, 0, crowd) for box, _, crowd in r] for r in objects]
    predictions = [[(box, s, 0) for box, s, _ in r] for r in predictions]
    one = measure(objects, predictions, cls=CocoMetric)
    for key in ('mAP', 'mAP_50', 'mAP_75'):
        assert seen[f'agnostic_{key}'] == one[f'bbox_{key}']


def test_known_numbers(measure, tmp_path):
    objects = [[(BOX, 0, 0), (FAR, 1, 0)], [(BOX, 0, 0)], []]
    # a lynx taken for a cat, a box 2 px to the right, a miss, a false alarm
    predictions = [[((12, 10, 32, 30), 0.9, 0), (FAR, 0.8, 0)], []]
    predictions += [[(BOX, 0.1, 2)]]
    prefix = str(tmp_path / 'out')
    seen = measure(objects, predictions, outfile_prefix=prefix)
    assert seen['num_matched'] == 2
    assert seen['class_accuracy'] == 0.5
    # two coordinates of eight are 2 of 100 px off
    assert seen['box_mse'] == pytest.approx(2 * 0.02**2 / 8)
    errors = dict(cls=1, loc=0, both=0, dupe=0, bkg=1, miss=1)
    assert seen['error_counts'] == errors
    pair = dict(true='lynx', predicted='cat', count=1, share=1.0)
    assert seen['most_confused'] == [pair]
    # two of three objects, above the false alarm: recall 2/3
    assert seen['agnostic_mAP_50'] == pytest.approx(67 / 101, abs=6e-4)
    assert seen['agnostic_mAP'] < seen['agnostic_mAP_50']
    report = load(f'{prefix}.fgl.json')
    assert report['classes'] == list(CLASSES)
    assert report['confusion'] == [[1, 0, 0, 1], [1, 0, 0, 0], [0] * 4]
    assert report['tide_miss'] == seen['tide_miss'] > 0
    png = (tmp_path / 'out.confusion.png').read_bytes()
    assert png.startswith(b'\x89PNG') and len(png) > 5000


def test_annotations_of_other_classes_do_not_count(measure):
    objects, classes = [[(BOX, 0, 0), (FAR, 2, 0)]], ('cat', 'lynx')
    seen = measure(objects, [[(BOX, 0.9, 0)]], classes=classes)
    assert seen['agnostic_mAP'] == 1
    assert not any(seen['error_counts'].values())


def test_nothing_predicted(measure):
    seen = measure([[(BOX, 0, 0)], []], [[], []])
    assert next(iter(seen)) == 'bbox_mAP'
    assert seen['bbox_mAP'] == seen['agnostic_mAP'] == 0
    assert seen['class_accuracy'] == seen['box_mse'] == -1
    assert seen['tide_miss'] == 1
    assert seen['most_confused'] == []


@pytest.mark.parametrize('crowd', [False, True])
def test_no_object(measure, crowd):
    objects = [[((0, 0, 90, 50), 0, 1)] if crowd else [], []]
    seen = measure(objects, [[(BOX, 0.9, 0)], []])
    assert seen['bbox_mAP'] == seen['agnostic_mAP'] == -1
    assert seen['error_counts']['bkg'] == (0 if crowd else 1)


def test_ground_truth_from_the_samples():
    samples = samples_of([[(BOX, 0.9, 0), (FAR, 0.8, 1)], []])
    samples[0]['instances'] = [
        dict(bbox=list(BOX), bbox_label=0, ignore_flag=0),
        dict(bbox=list(FAR), bbox_label=1, ignore_flag=1),
    ]
    samples[1]['instances'] = []
    seen = evaluate(samples)
    assert seen['bbox_mAP'] == seen['agnostic_mAP'] == 1
    assert seen['num_matched'] == 1


@pytest.mark.parametrize(
    'options', [dict(format_only=True), dict(metric='proposal')], ids=str
)
def test_nothing_is_added(measure, tmp_path, options):
    options = dict(options, outfile_prefix=str(tmp_path / 'out'))
    case = [[(BOX, 0, 0)]], [[(BOX, 0.9, 0)]]
    expected = measure(*case, cls=CocoMetric, **options)
    assert measure(*case, **options) == expected
    assert (tmp_path / 'out.bbox.json').exists()
    assert not (tmp_path / 'out.fgl.json').exists()


def test_confused_pairs():
    confusion = np.array([[5, 3, 0, 2], [1, 9, 3, 0], [0, 0, 0, 0]])
    seen = confused_pairs(confusion, CLASSES, top=2)
    pairs = [(p['true'], p['predicted']) for p in seen]
    assert pairs == [('cat', 'lynx'), ('lynx', 'dog')]
    assert seen[0]['share'] == 0.3
    assert len(confused_pairs(confusion, CLASSES, top=9)) == 3
