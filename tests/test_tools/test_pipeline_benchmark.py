import json

import cv2
import numpy as np
import pytest
import torch

from tools.benchmarks import pipeline


def test_both_pipelines_make_two_views(tmp_path):
    pipeline.make_jpegs(str(tmp_path), 1)
    (path,) = pipeline.find_jpegs(str(tmp_path), 4)
    assert cv2.imread(path).shape == (480, 640, 3)
    for run in pipeline.build_pipelines().values():
        views = run(dict(img_path=path, skipped=[]))['inputs']
        assert [v.shape for v in views] == [(3, 224, 224)] * 2
        assert all(v.dtype == torch.uint8 for v in views)


@pytest.mark.parametrize('given', [True, False])
def test_results(tmp_path, given):
    threads = cv2.getNumThreads(), torch.get_num_threads()
    arguments = ['--images', '2', '--repeats', '2', '--out', str(tmp_path)]
    if given:
        (tmp_path / 'photos').mkdir()
        img = np.zeros((300, 300, 3), np.uint8)
        for index in range(3):
            cv2.imwrite(str(tmp_path / 'photos' / f'{index}.jpg'), img)
        arguments += ['--data-root', str(tmp_path / 'photos')]
    pipeline.main(arguments)
    result = json.loads((tmp_path / 'results.json').read_text())
    assert result['images'] == 2
    speeds = [result[f'{n}_images_per_second'] for n in ('ours', 'mocov2')]
    assert min(speeds) > 0
    assert result['pipeline_ratio'] == pytest.approx(speeds[0] / speeds[1])
    assert '| ratio |' in (tmp_path / 'results.md').read_text()
    assert threads == (cv2.getNumThreads(), torch.get_num_threads())


def test_no_jpeg(tmp_path):
    cv2.imwrite(str(tmp_path / 'x.png'), np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(ValueError, match='no JPEG'):
        pipeline.find_jpegs(str(tmp_path), 3)
