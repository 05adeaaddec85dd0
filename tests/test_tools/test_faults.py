import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / 'tools' / 'benchmarks' / 'faults.py'


def test_rows_and_a_kill(tmp_path):
    """A few of the faults, so that they run without ``-m faults`` too."""
    names = ' or '.join(
        ['missing_checkpoint', '(classes and count)', 'corrupt_image']
        + ['(test_nan and detection)', '(test_kill and 13)']
    )
    result = subprocess.run(
        [sys.executable, str(TOOL), '--out', str(tmp_path), '-k', names],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    results = json.loads((tmp_path / 'results.json').read_text())
    assert len(results['rows']) == 4, result.stdout[-2000:]
    for row in results['rows']:
        assert row.keys() == {'fault', 'expected', 'seen', 'ok'}
        assert row['ok'], row
    assert results['kills'] == results['survived'] == 1
    table = (tmp_path / 'results.md').read_text()
    assert table.count('| yes |') == 4
    assert '1 of 1 runs' in table
