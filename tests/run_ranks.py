"""One of two ranks: runs what the test files named ``test_two_ranks`` ask for.

``python run_ranks.py RANK FOLDER``; see the fixture ``two_ranks``.
"""

import os
import runpy
import sys
from pathlib import Path
from types import ModuleType

import torch


def main():
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    here = Path(__file__).resolve().parent
    # test files import from this folder, not from a package of that name
    sys.modules['tests'] = tests = ModuleType('tests')
    tests.__path__ = [str(here)]
    results = {
        path.parent.name: runpy.run_path(str(path))['run_rank'](folder)
        for path in sorted(here.rglob('test_two_ranks.py'))
    }
    torch.save(results, folder / f'{rank}.pt')
    torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
