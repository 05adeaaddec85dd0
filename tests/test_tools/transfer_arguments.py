"""Command lines of tools/benchmarks/transfer.py for tiny data sets."""

import json


def arguments(data, out, arms, *more):
    text = (
        f'--data-root {data} --init random --arms {arms} --pretrain-iters 2 '
        f'--finetune-iters 2 --view-size 64 --workers 0 --threads 1 '
        f'--out {out}'
    )
    return [*text.split(), *more]


def read(path):
    return json.loads(path.read_text())
