"""Where the configs and tools of mmfgl lie."""

import os.path as osp
from difflib import get_close_matches
from pathlib import Path

from mmengine.config import Config


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


def get_config(name: str) -> Config:
    """Read a config of mmfgl by its name, from any folder.

    Args:
        name: As a child names its base, ``'mmfgl::FOLDER/FILE.py'``; the
            prefix may be left out.

    Returns:
        The config, with its bases.

    Raises:
        FileNotFoundError: There is no such config; names the likeliest.
    """
    folder = installed('configs')
    path = folder / name.removeprefix('mmfgl::')
    if not path.is_file():
        names = [str(x.relative_to(folder)) for x in folder.glob('*/*.py')]
        near = get_close_matches(path.name, names, 3, cutoff=0)
        raise FileNotFoundError(
            f'mmfgl has no config {name!r}. Near it are {", ".join(near)}'
        )
    return Config.fromfile(path)


def follow_move(path: str, was: str, now: str | Path) -> str:
    """Where a file lies today that may have been moved with a folder.

    Args:
        path: A file or folder, as the config of a run names it.
        was: A folder as that config names it, its work dir say.
        now: The same folder today.

    Returns:
        The path in the tree of ``now``, if it is there (also of a copy, beside
        which the original still is), else ``path``.

    Examples:
        >>> follow_move('/old/data/val.json', '/old/test', '/old/test')
        '/old/data/val.json'
    """
    if not osp.isabs(was):
        return path
    old, new = Path(was), Path(now).absolute()
    while old.name and old.name == new.name:  # moved with what is above it
        old, new = old.parent, new.parent
    if not Path(path).is_relative_to(old):
        return path
    moved = new / Path(path).relative_to(old)
    return str(moved) if moved.exists() else path
