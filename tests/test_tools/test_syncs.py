"""The models run on a GPU that is not there, and seldom wait for it."""

import pytest

from tools.benchmarks import syncs

# Own waits and uploads of a step, at most; more images need no more.
LIMITS = {
    'ReToD, objectness, 4 view-images': 3,
    'ReToD, objectness, 8 view-images': 3,
    'ReToD, all tasks, 4 view-images': 6,
    'FGL training, 2 images': 3,
    'FGL training, 4 images': 3,
    'FGL prediction, 1 image': 1,
    'FGL prediction, 2 images': 1,
}


@pytest.mark.parametrize('name', LIMITS)
def test_steps_run_on_the_device_and_seldom_wait(name):
    counts = syncs.count(syncs.CASES[name])
    own = {kind: syncs.total(c, own=True) for kind, c in counts.items()}
    assert own['uploads'] == 0, counts['uploads']
    assert 0 < own['waits'] <= LIMITS[name], counts['waits']
