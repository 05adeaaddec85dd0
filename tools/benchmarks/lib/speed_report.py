"""Markdown of speed.py."""

from __future__ import annotations


def markdown(results: dict) -> str:
    """Tables of the measured parts.

    Args:
        results: Content of ``results.json``.

    Returns:
        Markdown.
    """
    lines = [
        '| FGL / Faster R-CNN | ratio | FGL | Faster R-CNN |',
        '|---|---|---|---|',
    ]
    rows = (
        ('inference time', 'infer_ratio', 'infer_seconds', 's'),
        ('training step', 'train_ratio', 'train_seconds', 's'),
        ('peak memory, training', 'memory_ratio', 'train_memory_mb', 'MB'),
        (
            'peak memory, inference',
            'infer_memory_ratio',
            'infer_memory_mb',
            'MB',
        ),
        ('FLOPs, inference', 'flops_ratio', 'flops', 'G'),
    )
    for title, ratio, key, unit in rows:
        if ratio in results:
            scale = 1e9 if unit == 'G' else 1
            fgl, other = (
                f'{results[key][name] / scale:.4g} {unit}'
                for name in ('fgl', 'faster-rcnn')
            )
            lines.append(
                f'| {title} | {results[ratio]:.3f} | {fgl} | {other} |'
            )
    if len(lines) == 2:
        lines = []
    if 'pretrain_ratio' in results:
        rates = results['pretrain_images_per_second']
        lines += [
            '',
            '| pretraining | images/s | ReToD / this |',
            '|---|---|---|',
            f'| ReToD | {rates["retod"]:.3g} | 1 |',
        ]
        for name, ratio in results['pretrain_ratio'].items():
            lines.append(f'| {name} | {rates[name]:.3g} | {ratio:.3f} |')
    if 'pipeline_ratio' in results:
        lines += [
            '',
            f'Two-view pipeline over that of MoCo v2: '
            f'{results["pipeline_ratio"]:.3f} (images/s/core).',
        ]
    settings = ', '.join(f'{k} {v}' for k, v in results['settings'].items())
    return '\n'.join([*lines, '', f'Settings: {settings}.', ''])
