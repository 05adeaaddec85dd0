"""A tool finds the modules beside it, as when it is run."""

import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
for name in ('benchmarks', 'dataset_converters'):
    sys.path.insert(0, str(TOOLS / name))
