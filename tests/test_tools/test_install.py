"""`make install` says before its downloads what it lacks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DF = """#!/bin/sh
echo Filesystem 1024-blocks Used Available Capacity Mounted on
echo /dev/x 99999999 1 {} 1% /
"""


@pytest.mark.parametrize(
    'free_gb, options, message',
    [
        (8, {}, 'venv takes 9 GB, and 8 GB of its disk are free'),
        (3, dict(TORCH_INDEX='https://i'), 'venv takes 4 GB, and 3 GB'),
        (99, dict(PARENTS='mmdet'), "PARENTS is 'mmdet'; it must be onedl"),
        (99, dict(PYTHON='no-python'), "'no-python' does not run. Install"),
    ],
)
def test_refusals(tmp_path, free_gb, options, message):
    df = tmp_path / 'bin' / 'df'
    df.parent.mkdir()
    df.write_text(DF.format(free_gb * 2**20))
    df.chmod(0o755)
    env = dict(
        os.environ,
        PATH=f'{df.parent}:{os.environ["PATH"]}',
        VENV=str(tmp_path / 'venv'),
        PYTHON=sys.executable,
    )
    done = subprocess.run(
        ['bash', ROOT / 'tools' / 'install.sh'],
        env={**env, **options},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert message in ' '.join(done.stderr.split())
