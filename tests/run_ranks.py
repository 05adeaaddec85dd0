"""One of two ranks: runs what the test files named ``test_two_ranks`` ask for.

``python run_ranks.py RANK FOLDER``; see the fixture ``two_ranks``.
"""

import os
import runpy
import sys
from pathlib import Path

import torch


def main():
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here.parent))  # tests import from tests/
    results = {
        path.parent.name: runpy.run_path(str(path))['run_rank'](folder)
        for path in sorted(here.rglob('test_two_ranks.py'))
    }
    torch.save(results, folder / f'{rank}.pt')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
