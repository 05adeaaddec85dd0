import json
import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'faults.py'
CASES = ('missing_checkpoint', 'class_count', 'corrupt_image', 'nan_detection')


def test_rows_and_a_kill(tmp_path):
    command = [sys.executable, TOOL, '--out', tmp_path, '--kills', '1']
    result = subprocess.run(
        [*map(str, command), '--only', *CASES],
        capture_output=True,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    results = json.loads((tmp_path / 'results.json').read_text())
    assert len(results['rows']) == len(CASES)
    for row in results['rows']:
        assert row.keys() == {'fault', 'expected', 'seen', 'ok'}
        assert row['ok'], row
    assert results['kills'] == results['survived'] == 1
    table = (tmp_path / 'results.md').read_text()
    assert table.count('| yes |') == len(CASES)
    assert '1 of 1 runs' in table
