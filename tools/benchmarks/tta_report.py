"""Numbers and table of tta.py."""

from __future__ import annotations

from statistics import median

ARMS = dict(
    plain='plain',
    det_tta='DetTTAModel',
    roi_tta_views="RoITTAModel, 'views'",
    roi_tta_pyramid="RoITTAModel, 'pyramid'",
)
COLUMNS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def summarise(
    times: dict[str, list[float]],
    counts: list[int],
    precisions: dict[str, dict[str, float]],
) -> dict[str, dict[str, float] | None]:
    """Put times and average precisions together.

    Args:
        times: Seconds of each contestant for each block of images.
        counts: Number of images of each block.
        precisions: Average precisions of each contestant.

    Returns:
        For each contestant its average precisions, ``seconds_per_image``,
        ``time_to_plain`` and ``time_to_det_tta``, medians over the blocks;
        ``None`` for one that was left out.
    """
    results: dict = dict.fromkeys(ARMS)
    for name, seconds in times.items():
        results[name] = dict(
            precisions[name],
            seconds_per_image=median(
                s / n for s, n in zip(seconds, counts, strict=True)
            ),
        )
        for other in ('plain', 'det_tta'):
            if other in times:
                results[name][f'time_to_{other}'] = median(
                    a / b for a, b in zip(seconds, times[other], strict=True)
                )
    return results


def markdown(results: dict) -> str:
    """The table.

    Args:
        results: Content of ``results.json``.

    Returns:
        Markdown.
    """
    columns = [*COLUMNS]
    if 'mask_AP' in results['plain']:
        columns.append('mask_AP')
    heads = [*columns, 's per image', 'time / plain', 'time / DetTTAModel']
    lines = [
        f'| test | {" | ".join(heads)} |'.replace('_', ' '),
        f'|:--|{"--:|" * len(heads)}',
    ]
    for name, title in ARMS.items():
        found = results[name]
        if found is None:
            lines.append(f'| {title} |{" |" * len(heads)}')
            continue
        cells = [f'{found[column]:.1f}' for column in columns]
        cells.append(f'{found["seconds_per_image"]:.3f}')
        for other in ('plain', 'det_tta'):
            ratio = found.get(f'time_to_{other}')
            cells.append('' if ratio is None else f'{ratio:.2f}')
        lines.append(f'| {title} | {" | ".join(cells)} |')
    settings = results['settings']
    shown = ', '.join(f'{key} {value}' for key, value in settings.items())
    return '\n'.join([*lines, '', f'Settings: {shown}.', ''])
