"""The page as a browser shows it."""

import pathlib

import pytest

CHROMIUM = pathlib.Path('/usr/bin/chromium')
sync_api = pytest.importorskip(
    'playwright.sync_api', reason='playwright is not installed'
)
if not CHROMIUM.exists():
    pytest.skip(f'no browser at {CHROMIUM}', allow_module_level=True)


@pytest.fixture(scope='module')
def tab(page):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=['--no-sandbox']
        )
        context = browser.new_context(offline=True)
        context.set_default_timeout(10_000)
        tab = context.new_page()
        tab.complaints = []
        tab.on('console', lambda m: tab.complaints.append(m.text))
        tab.on('pageerror', lambda e: tab.complaints.append(str(e)))
        tab.on('dialog', lambda d: tab.complaints.append(d.message))
        tab.on('request', lambda r: tab.complaints.append(r.url))
        tab.goto(page.as_uri())
        yield tab
        browser.close()


def test_nothing_is_wrong_or_fetched(tab, page):
    urls = [u for u in tab.complaints if not u.startswith('data:')]
    assert urls == [page.as_uri()]


def test_images_are_seen(tab):
    tab.evaluate(
        '() => Promise.all([...document.images].map(i => i.decode()'
        '.catch(() => 0)))'
    )
    widths = tab.eval_on_selector_all(
        'img[src]', 'images => images.map(image => image.naturalWidth)'
    )
    assert len(widths) == 24 and min(widths) > 0


def test_a_click_sorts(tab):
    table = tab.locator('table.sortable').first
    column = table.locator('tbody td:nth-child(3)')
    head = table.get_by_role('button', name='AP', exact=True)
    assert column.all_inner_texts() == ['40.0', '50.0', '60.0']
    head.click()
    assert column.all_inner_texts() == ['60.0', '50.0', '40.0']
    head.click()
    assert column.all_inner_texts() == ['40.0', '50.0', '60.0']
    name = table.locator('tbody td:first-child')
    table.get_by_role('button', name='run').click()
    table.get_by_role('button', name='run').click()
    assert name.first.inner_text() == 'test-retod-tta'


def test_hostile_names_are_text(tab, hostile):
    cells = tab.locator('td.text').all_inner_texts()
    assert hostile in cells
    assert tab.locator('b, i, u, body script').count() == 1  # our own script
    assert tab.title() == 'Report: a<u>run'


def test_zoom(tab):
    dialog = tab.locator('dialog')
    assert not dialog.is_visible()
    tab.locator('button.zoom').nth(1).click()
    assert dialog.is_visible()
    text = dialog.locator('p').inner_text()
    assert text.startswith('test-imagenet-plain, <i>')
    tab.keyboard.press('ArrowLeft')
    assert dialog.locator('p').inner_text().startswith('truth, <i>')
    assert dialog.locator('img').evaluate('i => i.naturalWidth') > 0
    tab.keyboard.press('Escape')
    assert not dialog.is_visible()


@pytest.mark.parametrize('width', [400, 1280])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_sizes_and_schemes(tab, width, scheme):
    tab.set_viewport_size(dict(width=width, height=800))
    tab.emulate_media(color_scheme=scheme)
    assert tab.evaluate('document.documentElement.scrollWidth') == width
    page, ink, line = tab.evaluate(
        """() => [
          getComputedStyle(document.body).backgroundColor,
          getComputedStyle(document.querySelector('svg text')).fill,
          getComputedStyle(document.querySelector('svg path[style*=s0]'))
            .stroke,
        ].map(c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0))"""
    )
    # sums of red, green and blue
    dark = scheme == 'dark'
    assert (page < 100) == dark and (ink > 600) == dark
    assert abs(page - line) > 250
