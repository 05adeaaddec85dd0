"""Kept results, and a clone that shows them, for tests."""

import json

import benchmark_table
import pytest
from benchmark_tables.adding import clean_command
from benchmark_tables.kept import SCORES

COMMIT = '0123456789abcdef0123456789abcdef01234567'
COMMAND = (
    'python tools/benchmarks/transfer.py --data-root /mnt/me/photos '
    '--arms none,own=/home/me/clone/configs/own.py --out=/scratch/run'
)


def an_arm(*scores, **more):
    values = {key: list(scores) for key in SCORES}
    return values | dict(images_seen=8, pretrain_seconds=1.5) | more


def a_file(arms, **settings):
    settings = dict(
        data='photos', init='imagenet', detector='faster-rcnn', labels=None,
        shots=None, pretrain_minutes=None, pretrain_iters=20,
        finetune_iters=30, **settings,
    )  # fmt: skip
    return dict(
        kind='transfer', command=clean_command(COMMAND), commits=[COMMIT],
        machine={}, settings=settings, metrics=arms,
    )  # fmt: skip


class Clone:
    """A clone with kept results, and a README and a metafile of them."""

    def __init__(self, root):
        self.root, self.results = root, root / 'results'
        self.readme = root / 'README.md'
        self.metafile = root / 'configs/retod/metafile.yml'

    def keep(self, name, content):
        path = self.results / f'{name}.json'
        path.write_text(json.dumps(content))

    def run(self, *argv):
        benchmark_table.main([*argv], self.root, self.results)

    def fails(self, *argv):
        with pytest.raises(SystemExit) as error:
            self.run(*argv)
        return str(error.value.code)


def make_clone(folder):
    made = Clone(folder / 'clone')
    for folder in (made.results, made.metafile.parent):
        folder.mkdir(parents=True)
    made.keep('a', a_file({'none': an_arm(10.0, 12.0)}, view_size=1))
    made.keep('b', a_file({'retod': an_arm(13.0, 16.0, 90.0)}, view_size=2))
    made.readme.write_text(
        '# x\n<!-- table: transfer -->\n<!-- end -->\nEnd.\n'
    )
    made.metafile.write_text(
        'Models:\n'
        '  - Name: retod_faster-rcnn_efficientnet-lite0-fpn_1xb16\n'
        '    Results: null # no\n'
        '  - Name: retod_faster-rcnn_r18-half-fpn_1xb8\n'
        '    Results:\n      - Metrics:\n          box AP: 31.3\n'
        '    Downstream: []\n'
    )
    return made
