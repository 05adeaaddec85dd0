"""The demonstration page in a headless browser."""

import shutil

import cv2
import numpy as np
import pytest
from mmdet.apis import init_detector
from mmengine.config import Config

from mmfgl.testing import randomise_weights, tiny_fgl_cfg
from mmfgl.utils.launch import replace_data_root

gradio = pytest.importorskip('gradio')
sync_api = pytest.importorskip('playwright.sync_api')
CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')
TABS = ['Detections', 'Candidates', 'Targets', 'Attention']
CLASSES = tuple('0123456789')


@pytest.fixture(scope='module')
def model():
    cfg = Config.fromfile('tests/test_tools/tiny_detector.py')
    replace_data_root(cfg, 'nowhere')
    cfg.model = tiny_fgl_cfg(len(CLASSES), num_targets=8)
    model = init_detector(cfg, None, palette='random', device='cpu')
    model.dataset_meta = dict(classes=CLASSES)
    return randomise_weights(model).eval()


@pytest.fixture
def image(tmp_path):
    path = tmp_path / 'image.png'
    pixels = np.random.default_rng(0).integers(0, 255, (96, 128, 3))
    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return path


@pytest.mark.skipif(not CHROMIUM, reason='Chromium is not installed')
def test_page(model, image):
    from mmfgl.visualization.page import build_page, serve

    page = build_page(model, 'A page', [])
    address = serve(page, block=False)
    errors, requests = [], []
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=['--no-sandbox']
            )
            tab = browser.new_page(viewport=dict(width=1280, height=900))
            tab.on('pageerror', lambda error: errors.append(str(error)))
            tab.on('request', lambda request: requests.append(request.url))
            tab.goto(address)
            tab.set_input_files('input[type=file]', image)
            for name in TABS:
                tab.get_by_role('tab', name=name).click()
                panel = tab.get_by_role('tabpanel').locator('visible=true')
                picture = panel.locator('img').first
                picture.wait_for()
                tab.wait_for_function(
                    'image => image.naturalWidth > 300',
                    arg=picture.element_handle(),
                )
            browser.close()
    finally:
        page.close()
    assert not errors
    local = (address, 'data:', 'blob:')
    assert not [url for url in requests if not url.startswith(local)]


def test_pictures_without_browser(model, image):
    from mmfgl.visualization.page import TABS as PANELS
    from mmfgl.visualization.page import _show, _trace

    pixels = cv2.imread(str(image))[..., ::-1]
    trace = _trace(model, pixels)
    *pictures, rows = _show(trace, 10**6, 0.0)  # the last target instead
    assert len(pictures) == len(PANELS)
    assert all(p.dtype == np.uint8 and p.shape[2] == 3 for p in pictures)
    assert {row[0] for row in rows} <= set(CLASSES)
    assert len(rows) == len(trace.found)
    assert _show(None, 0, 0.3)[-1] == [] == _show(trace, None, 1.1)[-1]
