import numpy as np
import pytest
from PIL import Image

from mmfgl.datasets.image_reader import UnreadableImageError
from mmfgl.reports.detections import choose_images, panels
from mmfgl.reports.pictures import draw_boxes, load_picture
from mmfgl.reports.runs import find_runs


def test_small_and_large_images_are_shown_alike(tmp_path):
    for size in ((40, 30), (1600, 1200)):
        path = tmp_path / 'image.png'
        Image.new('RGB', size, 'red').save(path)
        picture, factors = load_picture(str(path), 800)
        assert picture.shape == (600, 800, 3)
        assert factors == (800 / size[0], 600 / size[1])
        assert picture[0, 0].tolist() == [255, 0, 0]
    path.write_text('no image')
    # what training takes as 12 bits is no black picture
    Image.fromarray(np.full((4, 4), 4080, np.uint16)).save(path)
    assert load_picture(str(path))[0].min() == 255
    path.write_text('no image')
    for name in ('image.png', 'none.png'):
        with pytest.raises(UnreadableImageError, match=name):
            load_picture(str(tmp_path / name))


def test_draw_boxes():
    image = np.full((300, 400, 3), 128, dtype=np.uint8)
    boxes = np.array([[50, 50, 150, 150], [200, 100, 390, 290]])
    drawn = draw_boxes(image, boxes, [0, 1], ['one', 'two\nlines'])
    changed = (drawn != image).any(axis=2)
    assert changed[100, 50] and changed[200, 200]  # lines
    assert not changed[100, 100] and not changed[250, 300]  # inside
    assert changed[40, 55]  # the label above
    dashed = draw_boxes(image, boxes, [0, 1], ['one', 'two'], [True, True])
    assert (dashed != image).any(axis=2).sum() < changed.sum()
    assert (image == 128).all()
    assert np.array_equal(draw_boxes(image, np.zeros((0, 4)), [], []), image)


def test_labels_avoid_each_other_and_stay_inside():
    image = np.full((300, 400, 3), 128, dtype=np.uint8)
    box = np.array([[100, 100, 200, 200]])
    one = draw_boxes(image, box, [0], ['label'])
    two = draw_boxes(image, box.repeat(2, 0), [0, 0], ['label', 'label'])
    below = np.s_[203:, :]
    assert (one[below] == 128).all() and (two[below] != 128).any()
    edge = np.array([[390, 290, 399, 299], [-5, -5, 3, 3]])
    names = ['a name that is too long for this place', '']
    drawn = draw_boxes(image, edge, [0, 0], names)
    assert (drawn[260:290, 100:380] != 128).any()


def test_images_with_most_errors_are_shown(run_folder):
    results = find_runs([run_folder]).tests[1].results
    chosen = choose_images(results, 4)
    assert [reason for reason, _ in chosen] == 2 * ['typical'] + 2 * [
        'many errors'
    ]
    assert 0 not in [index for _, index in chosen]  # it has no object
    assert len({index for _, index in chosen}) == 4
    assert len(choose_images(results, 99)) == 9
    truth, found = panels([results], 3, 400)
    assert truth.shape == found.shape == (300, 400, 3)
    assert (truth != found).any()
