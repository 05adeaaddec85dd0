import json
import math

import pytest
import torch

from mmfgl.evaluation import DefinedCocoMetric, FGLMetric

CLASSES = ('cat', 'lynx', 'dog')
BOX, FAR = (10, 10, 30, 30), (60, 10, 80, 30)
METRICS = ['bbox', 'segm', 'proposal']
KINDS = [DefinedCocoMetric, FGLMetric]


def content_of(objects, classes=CLASSES, num_images=2):
    """COCO content of (image, box, category, crowd) rows."""
    size = dict(width=100, height=50, file_name='x')
    return dict(
        images=[dict(size, id=i + 1) for i in range(num_images)],
        categories=[dict(id=i + 1, name=n) for i, n in enumerate(classes)],
        annotations=[
            dict(
                id=i + 1,
                image_id=image + 1,
                category_id=label + 1,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1),
                segmentation=[[x1, y1, x2, y1, x2, y2, x1, y2]],
                iscrowd=crowd,
            )
            for i, (image, (x1, y1, x2, y2), label, crowd) in enumerate(
                objects
            )
        ],
    )


@pytest.fixture
def metric_of(tmp_path):
    """A metric on a content, and its data set's classes."""

    def build(content, cls=DefinedCocoMetric, classes=CLASSES, **options):
        text = json.dumps(content)
        (tmp_path / 'gt.json').write_bytes(b'\xef\xbb\xbf' + text.encode())
        metric = cls(ann_file=str(tmp_path / 'gt.json'), **options)
        metric.dataset_meta = dict(classes=classes)
        return metric

    return build


def results_of(metric, predictions, masks=True):
    """Results of (box, score, label) rows of each image."""
    for image, rows in enumerate(predictions):
        found = dict(
            bboxes=torch.tensor([r[0] for r in rows]).float().reshape(-1, 4),
            scores=torch.tensor([r[1] for r in rows]).float(),
            labels=torch.tensor([r[2] for r in rows]).long(),
        )
        if masks:
            found['masks'] = torch.zeros(len(rows), 50, 100).bool()
            for mask, row in zip(found['masks'], rows):
                if all(map(math.isfinite, row[0])):
                    x1, y1, x2, y2 = map(int, row[0])
                    mask[y1:y2, x1:x2] = True
        sample = dict(img_id=image + 1, ori_shape=(50, 100))
        metric.process({}, [dict(sample, pred_instances=found)])
    found = metric.evaluate(len(predictions))
    return {k.removeprefix('coco/'): v for k, v in found.items()}


def values_of(results):
    """All numbers of results; none is NaN."""
    numbers = [v for v in results.values() if not isinstance(v, dict | list)]
    assert numbers and not any(map(math.isnan, numbers))
    return numbers


FOUND = [(BOX, 0.9, 0)], [(FAR, 0.8, 1)]
NOTHING = [], []
CROWD = [(0, BOX, 0, 1), (1, (0, 0, 90, 50), 1, 1)]
ONE = [(0, BOX, 0, 0)]


@pytest.mark.parametrize('cls', KINDS)
@pytest.mark.parametrize('found', [FOUND, NOTHING], ids=['some', 'none'])
@pytest.mark.parametrize(
    ('objects', 'ap'), [([], -1), (CROWD, -1), (ONE, None)], ids=str
)
def test_every_result_is_a_number(metric_of, objects, ap, found, cls):
    metric = metric_of(
        content_of(objects), cls, metric=METRICS, classwise=True
    )
    results = results_of(metric, found)
    values_of(results)
    if ap is None:
        ap = 1 if found is FOUND else 0
    for key in ('bbox_mAP', 'segm_mAP', 'bbox_mAP_50', 'cat_precision'):
        assert results[key] == ap, key
    assert results['bbox_mAP_l'] == -1  # there is no large object
    # two classes are absent: they have no AP and do not lower the mean
    assert results['dog_precision'] == results['lynx_precision'] == -1
    assert {'AR@100', 'AR@1000', 'AR_s@1000'} <= set(results)


@pytest.mark.parametrize('found', [FOUND, NOTHING], ids=['some', 'none'])
def test_keys_do_not_depend_on_what_is_found(metric_of, found):
    content = content_of(ONE)
    options = dict(metric=METRICS, classwise=True)
    full = results_of(metric_of(content, **options), FOUND)
    assert set(results_of(metric_of(content, **options), found)) == set(full)
    items = dict(metric_items=['mAP', 'AR@100'])
    seen = results_of(metric_of(content, **items), found)
    assert list(seen) == ['bbox_mAP', 'bbox_AR@100']


@pytest.mark.parametrize('cls', KINDS)
def test_no_image(metric_of, cls):
    metric = metric_of(content_of([], num_images=0), cls)
    assert set(values_of(results_of(metric, []))) == {-1}


@pytest.mark.parametrize('cls', KINDS)
@pytest.mark.parametrize('keys', [('annotations',), ('annotations', 'info')])
def test_file_without_annotations(metric_of, keys, cls):
    content = content_of([])
    for key in keys:
        content.pop(key, None)
    assert results_of(metric_of(content, cls), FOUND)['bbox_mAP'] == -1


@pytest.mark.parametrize('cls', KINDS)
def test_one_class(metric_of, cls):
    metric = metric_of(content_of(ONE, ['cat']), cls, ('cat',))
    results = results_of(metric, [[(BOX, 0.9, 0)], []])
    values_of(results)
    assert results['bbox_mAP'] == 1
    if cls is FGLMetric:
        assert results['class_accuracy'] == 1 and not results['most_confused']


@pytest.mark.parametrize('cls', KINDS)
@pytest.mark.parametrize(
    'change',
    [
        lambda a, i: a.update(id=i),  # from 0: 'no match' for COCOeval
        lambda a, i: a.update(id=7),
        lambda a, i: a.pop('id'),
        lambda a, i: a.update(id=f'ann-{i}'),
        lambda a, i: a.update(id=-1 - i),
        lambda a, i: a.update(id=i + 0.5),
        lambda a, i: a.update(id=True),
        lambda a, i: a.pop('iscrowd'),
        lambda a, i: a.pop('area'),
        lambda a, i: a.update(area=None),
        lambda a, i: a.update(bbox=[str(v) for v in a['bbox']]),
        lambda a, i: a.update(image_id=str(a['image_id'])),
        lambda a, i: a.update(category_id=str(a['category_id'])),
    ],
)
def test_files_of_exporters(metric_of, change, cls):
    content = content_of([(0, BOX, 0, 0), (1, FAR, 1, 0), (1, BOX, 2, 0)])
    expected = results_of(metric_of(content, cls), FOUND)
    assert expected['bbox_mAP'] == pytest.approx(2 / 3, abs=1e-3)
    for index, annotation in enumerate(content['annotations']):
        change(annotation, index)
    assert results_of(metric_of(content, cls), FOUND) == expected


@pytest.mark.parametrize(
    'box',
    [None, [1, 2, 3], [1, 2, 3, float('nan')], ['a', 1, 2, 3], 5],
    ids=str,
)
def test_a_box_that_is_none(metric_of, box):
    content = content_of(ONE)
    content['annotations'][0].update(id='ann-5', bbox=box)
    with pytest.raises(ValueError, match=r"gt\.json: annotation 'ann-5'"):
        metric_of(content)


@pytest.mark.parametrize('key', ['image_id', 'category_id'])
def test_annotations_of_nothing(metric_of, key):
    content = content_of([(0, BOX, 0, 0), (1, FAR, 1, 0)])
    for annotation in content['annotations']:
        annotation[key] = 77
    with pytest.raises(ValueError, match=f'2 of 2 annotations have a {key}'):
        metric_of(content)
    content['annotations'][0][key] = 1  # some are of other images
    assert results_of(metric_of(content), FOUND)['bbox_mAP'] == 1


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (('cat', 'dog'), "lacks 1 of the 3 classes .* 'lynx'"),
        (('lynx', 'cat', 'dog'), "another order.*'lynx', 'cat', 'dog'"),
    ],
)
def test_other_classes(metric_of, names, message):
    """Before training: loops hand the classes over when they are built."""
    with pytest.raises(ValueError, match=message):
        metric_of(content_of([], names))


def test_classwise_needs_ids_that_ascend(metric_of):
    content = content_of([(0, BOX, 0, 0)])
    content['categories'][0]['id'] = 9
    content['annotations'][0]['category_id'] = 9
    metric_of(content)
    with pytest.raises(ValueError, match=r'\[9, 2, 3\] .* do not ascend'):
        metric_of(content, classwise=True)


def test_grouping_category(metric_of):
    content = content_of(ONE)
    content['categories'].insert(0, dict(id=0, name='cat'))
    assert results_of(metric_of(content), FOUND)['bbox_mAP'] == 1


@pytest.mark.parametrize('masks', [False, True])
@pytest.mark.parametrize('cls', KINDS)
def test_predictions_that_are_not_finite(metric_of, masks, cls):
    nan, metric = float('nan'), ['bbox', 'segm'] if masks else 'bbox'
    rows = [((nan, 10, 30, 30), 0.95, 0), (BOX, 0.9, 0), (BOX, nan, 0)]
    rows += [((10, 10, float('inf'), 30), 0.97, 0)]
    metric = metric_of(content_of(ONE), cls, metric=metric)
    results = results_of(metric, [rows, []], masks)
    values_of(results)
    assert results['bbox_mAP'] == 1
    assert metric.num_invalid == 0  # said, and forgotten


@pytest.mark.parametrize('cls', KINDS)
def test_boxes_without_area_find_nothing(metric_of, cls):
    point = (5, 5, 5, 5)
    content = content_of([(0, point, 0, 0), (1, FAR, 1, 1)])
    rows = [[(point, 0.9, 0)], [(point, 0.8, 1), ((9, 9, 5, 5), 0.7, 1)]]
    results = results_of(metric_of(content, cls), rows, masks=False)
    values_of(results)
    assert results['bbox_mAP'] == 0


@pytest.mark.parametrize('thrs', [0.5, [0.5], [0.5, 0.75]])
@pytest.mark.parametrize('cls', KINDS)
def test_thresholds_as_a_config_gives_them(metric_of, thrs, cls):
    content = content_of([(0, BOX, 0, 0)])
    # and what exporters leave null
    content['annotations'][0].update(iscrowd=None)
    content['images'][0].update(width=None, height=0)
    metric = metric_of(content, cls, iou_thrs=thrs)
    results = results_of(metric, [[(BOX, 0.9, 0)], []])
    assert results['bbox_mAP'] == 1
    values_of(results)


def test_sorted_categories(metric_of):
    content = content_of(ONE)
    content['categories'].reverse()
    metric = metric_of(content, sort_categories=True)
    assert results_of(metric, FOUND)['bbox_mAP'] == 1


def test_submission_without_a_prediction(metric_of, tmp_path):
    options = dict(format_only=True, outfile_prefix=str(tmp_path / 'out'))
    metric = metric_of(content_of([]), **options)
    assert results_of(metric, NOTHING) == {}
    assert json.loads((tmp_path / 'out.bbox.json').read_text()) == []
