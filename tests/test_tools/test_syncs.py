"""The models run on a GPU that is not there, and seldom wait for it."""

import functools

import pytest

from tools.benchmarks import syncs

# Own waits and uploads of a step, at most; more images need no more.
LIMITS = {
    'ReToD, objectness, 4 view-images': 7,
    'ReToD, objectness, 8 view-images': 7,
    'ReToD, all tasks, 4 view-images': 10,
    'FGL training, 2 images': 4,
    'FGL training, 4 images': 4,
    'FGL prediction, 1 image': 1,
    'FGL prediction, 2 images': 1,
}


@functools.cache
def count(name):
    return syncs.count(syncs.CASES[name])


@pytest.mark.parametrize('name', LIMITS)
def test_steps_run_on_the_device_and_seldom_wait(name):
    counts = count(name)
    own = {kind: syncs.total(c, own=True) for kind, c in counts.items()}
    assert own['uploads'] == 0, counts['uploads']
    assert 0 < own['waits'] <= LIMITS[name], counts['waits']


def test_the_parents_wait_once_more_for_four_images_more():
    """For an NMS; they loop over images no longer."""
    few, more = (
        syncs.total(count(name)['waits'], own=False)
        for name in list(LIMITS)[:2]
    )
    assert few < 20
    assert more == few + 1
