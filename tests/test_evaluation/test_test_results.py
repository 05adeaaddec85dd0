import json

import pytest
from mmengine.config import Config

from mmfgl.evaluation import read_test_results


def test_class_aps_of_ids_in_any_order(tmp_path):
    """COCOeval sorts by category id, classes come as the config lists them."""
    categories = [dict(id=2, name='cat'), dict(id=1, name='dog')]
    boxes = {2: [5, 5, 20, 15], 1: [35, 8, 20, 30]}
    annotations = [
        dict(id=c, image_id=0, category_id=c, bbox=b, area=300, iscrowd=0)
        for c, b in boxes.items()
    ]
    image = dict(id=0, file_name='0.jpg', width=80, height=60)
    content = dict(images=[image], annotations=annotations)
    ann_file = tmp_path / 'val.json'
    ann_file.write_text(json.dumps(content | dict(categories=categories)))
    dataset = dict(
        type='CocoDataset',
        data_root=str(tmp_path),
        ann_file='val.json',
        data_prefix=dict(img=''),
        metainfo=dict(classes=('cat', 'dog')),
    )
    cfg = dict(
        test_dataloader=dict(dataset=dataset),
        test_evaluator=dict(type='CocoMetric'),
    )
    Config(cfg).dump(tmp_path / 'config.py')
    (tmp_path / 'metrics.json').write_text('{}')
    found = [dict(image_id=0, category_id=2, bbox=boxes[2], score=0.9)]
    (tmp_path / 'predictions.bbox.json').write_text(json.dumps(found))
    results = read_test_results(tmp_path)
    aps = dict(zip(results.classes, results.class_aps()['AP'], strict=True))
    assert aps == pytest.approx(dict(cat=1.0, dog=0.0))
