"""Where the files of mmfgl lie that are no Python modules."""

from pathlib import Path


def installed(*parts: str) -> Path:
    """Path of an installed config, tool or ``model-index.yml``.

    They lie in ``mmfgl/.mim``, as MIM and MMEngine expect it: real files in
    an installed wheel, links to the repository's folders in a clone.

    Args:
        *parts: Path below ``mmfgl/.mim``, such as ``'configs', 'retod'``.

    Returns:
        The absolute path, in a clone that of the repository itself.

    Raises:
        FileNotFoundError: There is no such file.

    Examples:
        >>> installed('tools', 'train.py').name
        'train.py'
    """
    path = Path(__file__).parents[1].joinpath('.mim', *parts)
    if not path.exists():
        raise FileNotFoundError(
            f'{path} is missing; `pip install --force-reinstall --no-deps` '
            'mmfgl once more if it should be there'
        )
    return path.resolve()
