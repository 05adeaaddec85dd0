import copy
import json

import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmengine.fileio import load

from mmfgl.evaluation import FGLMetric, confused_pairs, tide_report
from mmfgl.registry import METRICS

CLASSES = ('cat', 'lynx', 'dog')
EXTRA = {
    'agnostic_mAP',
    'agnostic_mAP_50',
    'agnostic_mAP_75',
    'class_accuracy',
    'box_mse',
    'num_matched',
    'tide_cls',
    'tide_loc',
    'tide_both',
    'tide_dupe',
    'tide_bkg',
    'tide_miss',
    'error_counts',
    'most_confused',
}
BOX, FAR = (10, 10, 30, 30), (60, 10, 80, 30)


def coco_file(path, objects, size=(100, 50)):
    """Objects of each image: (box, category index, crowd)."""
    annotations = []
    for image, rows in enumerate(objects):
        for (x1, y1, x2, y2), label, crowd in rows:
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image,
                    category_id=10 + label,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
                    iscrowd=crowd,
                )
            )
    images = [
        dict(id=i, width=size[0], height=size[1], file_name=f'{i}.jpg')
        for i in range(len(objects))
    ]
    categories = [dict(id=10 + i, name=n) for i, n in enumerate(CLASSES)]
    content = dict(
        images=images, annotations=annotations, categories=categories
    )
    path.write_text(json.dumps(content))
    return str(path)


def samples_of(predictions, size=(100, 50), masks=False):
    """Data samples of predictions (box, score, label) by image."""
    samples = []
    for image, rows in enumerate(predictions):
        found = dict(
            bboxes=torch.tensor([r[0] for r in rows]).float().reshape(-1, 4),
            scores=torch.tensor([r[1] for r in rows]).float(),
            labels=torch.tensor([r[2] for r in rows]).long(),
        )
        if masks:
            found['masks'] = torch.zeros(len(rows), *size[::-1]).bool()
            for mask, (x1, y1, x2, y2) in zip(
                found['masks'], found['bboxes'].int(), strict=True
            ):
                mask[y1:y2, x1:x2] = True
        samples.append(
            dict(img_id=image, ori_shape=size[::-1], pred_instances=found)
        )
    return samples


def evaluate(cls, samples, classes=CLASSES, **options):
    metric = cls(**options)
    metric.dataset_meta = dict(classes=classes)
    for sample in copy.deepcopy(samples):
        metric.process({}, [sample])
    return metric.evaluate(len(samples))


def random_case(seed=0, num_images=12):
    rng = np.random.default_rng(seed)
    objects, predictions = [], []
    for image in range(num_images):
        # some images without objects, some without predictions
        count = 0 if image % 5 == 0 else int(rng.integers(1, 6))
        corner = rng.uniform(0, 60, (count, 2)) * (1, 0.5)
        boxes = np.hstack([corner, corner + rng.uniform(8, 25, (count, 2))])
        labels = rng.integers(0, 2, count)  # no dog
        objects.append(
            [
                (b.tolist(), int(k), int(rng.random() < 0.1))
                for b, k in zip(boxes, labels, strict=True)
            ]
        )
        rows = []
        for _ in range(0 if image % 7 == 3 else 3):
            for box, label in zip(boxes, labels, strict=True):
                noise = rng.uniform(-4, 4, 4)  # sides stay positive
                wrong = rng.random() < 0.3
                rows.append(
                    (
                        (box + noise).tolist(),
                        float(rng.random()),
                        int(rng.integers(0, 3) if wrong else label),
                    )
                )
        predictions.append(rows)
    return objects, predictions


@pytest.mark.parametrize(
    'options',
    [
        {},
        dict(classwise=True),
        dict(metric=['bbox', 'segm']),
        dict(metric_items=['mAP', 'AR@100']),
    ],
    ids=str,
)
def test_every_result_of_coco_metric_stays(tmp_path, options):
    objects, predictions = random_case()
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    masks = 'segm' in options.get('metric', ())
    samples = samples_of(predictions, masks=masks)
    expected = evaluate(CocoMetric, samples, ann_file=ann_file, **options)
    seen = evaluate(FGLMetric, samples, ann_file=ann_file, **options)
    assert list(seen)[: len(expected)] == list(expected)
    for key in expected:  # nan for a class without objects
        assert seen[key] == pytest.approx(expected[key], nan_ok=True)
    assert {k.removeprefix('coco/') for k in seen} - EXTRA == {
        k.removeprefix('coco/') for k in expected
    }
    assert {k.removeprefix('coco/') for k in seen} >= EXTRA


def test_ap_of_the_errors_is_coco_ap50(tmp_path):
    objects, predictions = random_case(seed=1)
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    metric = FGLMetric(ann_file=ann_file)
    metric.dataset_meta = dict(classes=CLASSES)
    for sample in samples_of(predictions):
        metric.process({}, [sample])
    results = metric.compute_metrics(metric.results)
    report = tide_report(metric._images(metric.results), 3)
    assert 0.1 < report.ap < 0.9
    assert results['bbox_mAP_50'] == pytest.approx(report.ap, abs=6e-4)
    assert all(results['error_counts'].values())


def test_known_numbers(tmp_path):
    objects = [[(BOX, 0, 0), (FAR, 1, 0)], [(BOX, 0, 0)], []]
    # a lynx taken for a cat, a box 2 px to the right, a miss, a false alarm
    predictions = [
        [((12, 10, 32, 30), 0.9, 0), (FAR, 0.8, 0)],
        [],
        [(BOX, 0.1, 2)],
    ]
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    prefix = str(tmp_path / 'out')
    seen = evaluate(
        FGLMetric,
        samples_of(predictions),
        ann_file=ann_file,
        outfile_prefix=prefix,
    )
    seen = {k.removeprefix('coco/'): v for k, v in seen.items()}
    assert seen['num_matched'] == 2
    assert seen['class_accuracy'] == 0.5
    # two coordinates of eight are 2 of 100 px off
    assert seen['box_mse'] == pytest.approx(2 * 0.02**2 / 8)
    assert seen['error_counts'] == dict(
        cls=1, loc=0, both=0, dupe=0, bkg=1, miss=1
    )
    assert seen['most_confused'] == [
        dict(true='lynx', predicted='cat', count=1, share=1.0)
    ]
    # two of three objects, above the false alarm: recall 2/3
    assert seen['agnostic_mAP_50'] == pytest.approx(67 / 101, abs=6e-4)
    assert seen['agnostic_mAP'] < seen['agnostic_mAP_50']
    report = load(f'{prefix}.fgl.json')
    assert report['classes'] == list(CLASSES)
    assert report['confusion'] == [[1, 0, 0, 1], [1, 0, 0, 0], [0] * 4]
    assert report['tide_miss'] == seen['tide_miss'] > 0
    png = (tmp_path / 'out.confusion.png').read_bytes()
    assert png.startswith(b'\x89PNG') and len(png) > 5000


def test_agnostic_ap_ignores_classes(tmp_path):
    objects = [[(BOX, 0, 0), (FAR, 1, 0)]]
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    swapped = samples_of([[(BOX, 0.9, 1), (FAR, 0.8, 0)]])
    seen = evaluate(FGLMetric, swapped, ann_file=ann_file)
    assert seen['coco/bbox_mAP'] == 0
    assert seen['coco/agnostic_mAP'] == 1
    assert seen['coco/tide_cls'] == 1
    assert seen['coco/class_accuracy'] == 0


def test_annotations_of_other_classes_do_not_count(tmp_path):
    objects = [[(BOX, 0, 0), (FAR, 2, 0)]]
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    samples = samples_of([[(BOX, 0.9, 0)]])
    seen = evaluate(
        FGLMetric, samples, classes=('cat', 'lynx'), ann_file=ann_file
    )
    assert seen['coco/agnostic_mAP'] == 1
    assert not any(seen['coco/error_counts'].values())


def test_nothing_predicted(tmp_path):
    ann_file = coco_file(tmp_path / 'gt.json', [[(BOX, 0, 0)], []])
    seen = evaluate(FGLMetric, samples_of([[], []]), ann_file=ann_file)
    assert next(iter(seen)) == 'coco/bbox_mAP'
    assert seen['coco/bbox_mAP'] == seen['coco/agnostic_mAP'] == 0
    assert seen['coco/class_accuracy'] == seen['coco/box_mse'] == -1
    assert seen['coco/tide_miss'] == 1
    assert seen['coco/most_confused'] == []


@pytest.mark.parametrize('crowd', [False, True])
def test_no_object(tmp_path, crowd):
    objects = [[((0, 0, 90, 50), 0, 1)] if crowd else [], []]
    ann_file = coco_file(tmp_path / 'gt.json', objects)
    samples = samples_of([[(BOX, 0.9, 0)], []])
    seen = evaluate(FGLMetric, samples, ann_file=ann_file)
    assert seen['coco/bbox_mAP'] == seen['coco/agnostic_mAP'] == -1
    assert seen['coco/error_counts']['bkg'] == (0 if crowd else 1)


def test_ground_truth_from_the_samples():
    samples = samples_of([[(BOX, 0.9, 0), (FAR, 0.8, 1)], []])
    for sample in samples:
        sample['instances'] = []
    samples[0]['instances'] = [
        dict(bbox=list(BOX), bbox_label=0, ignore_flag=0),
        dict(bbox=list(FAR), bbox_label=1, ignore_flag=1),
    ]
    seen = evaluate(FGLMetric, samples)
    assert seen['coco/bbox_mAP'] == seen['coco/agnostic_mAP'] == 1
    assert seen['coco/num_matched'] == 1


@pytest.mark.parametrize(
    'options', [dict(format_only=True), dict(metric='proposal')], ids=str
)
def test_nothing_is_added(tmp_path, options):
    ann_file = coco_file(tmp_path / 'gt.json', [[(BOX, 0, 0)]])
    options = dict(options, outfile_prefix=str(tmp_path / 'out'))
    samples = samples_of([[(BOX, 0.9, 0)]])
    expected = evaluate(CocoMetric, samples, ann_file=ann_file, **options)
    seen = evaluate(FGLMetric, samples, ann_file=ann_file, **options)
    assert seen == expected
    assert (tmp_path / 'out.bbox.json').exists()
    assert not (tmp_path / 'out.fgl.json').exists()


def test_confused_pairs():
    confusion = np.array([[5, 3, 0, 2], [1, 9, 3, 0], [0, 0, 0, 0]])
    seen = confused_pairs(confusion, CLASSES, top=2)
    assert [(p['true'], p['predicted']) for p in seen] == [
        ('cat', 'lynx'),
        ('lynx', 'dog'),
    ]
    assert seen[0]['share'] == 0.3
    assert len(confused_pairs(confusion, CLASSES, top=9)) == 3


def test_built_from_a_config(tmp_path):
    ann_file = coco_file(tmp_path / 'gt.json', [[(BOX, 0, 0)]])
    metric = METRICS.build(dict(type='mmfgl.FGLMetric', ann_file=ann_file))
    assert isinstance(metric, FGLMetric)
