"""The version of mmfgl and the versions of the parents it works with.

A parent's version is read from its file, without importing it, so that a
wrong version is reported here before the parent's own import fails.
"""

import importlib.util
import runpy
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

__version__ = '0.1.0'

FAMILIES = ('onedl', 'openmmlab')


class Parent(NamedTuple):
    """A package mmfgl builds on.

    Attributes:
        name: Import name, the same in both families.
        minimum: First version that works.
        maximum: First version that is refused.
        onedl: The tested distribution of the maintained onedl-* family.
        openmmlab: The tested distribution of the original family.
    """

    name: str
    minimum: str
    maximum: str
    onedl: str
    openmmlab: str


PARENTS = (
    Parent(
        'mmengine',
        '0.10.0',
        '1.0.0',
        onedl='onedl-mmengine==0.10.12',
        openmmlab='mmengine==0.10.7',
    ),
    Parent(
        'mmcv',
        '2.1.0',
        '3.0.0',
        onedl='onedl-mmcv==2.3.6',
        openmmlab='mmcv==2.1.0',
    ),
    Parent(
        'mmdet',
        '3.3.0',
        '4.0.0',
        onedl='onedl-mmdetection==3.5.1',
        openmmlab='mmdet==3.3.0',
    ),
    Parent(
        'mmpretrain',
        '1.2.0',
        '2.0.0',
        onedl='onedl-mmpretrain==1.3.6',
        openmmlab='mmpretrain==1.2.0',
    ),
)
# mmdet 3.3 asserts mmcv < 2.2 when it is imported; onedl-mmdetection begins
# at 3.4 and asserts nothing.
MMDET_WITHOUT_MMCV_BOUND = '3.4.0'
MMCV_MAXIMUM_FOR_MMDET_33 = '2.2.0'


def find_version(name: str) -> str | None:
    """Find the version of an installed parent without importing it.

    Args:
        name: Import name, e.g. ``'mmdet'``.

    Returns:
        The version, or None if the package is not installed. A folder that
        ``pip uninstall`` left behind has no ``__init__.py`` and counts as
        not installed.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    # A literal in the original family, a look-up in the distribution's
    # metadata in the onedl family: running the file serves both.
    namespace = runpy.run_path(str(Path(spec.origin).with_name('version.py')))
    return namespace['__version__']


def find_families() -> set[str]:
    """Find the families of which at least one parent is installed."""
    installed = {
        dist.name.lower().replace('_', '-')
        for dist in metadata.distributions()
        if dist.name  # None for a broken installation
    }
    return {
        family
        for family in FAMILIES
        for parent in PARENTS
        if getattr(parent, family).split('==')[0] in installed
    }


def load_ops() -> None:
    """Load mmcv's compiled ops.

    Raises:
        ImportError: ``mmcv._ext`` is missing or does not load, or torch is
            missing.
    """
    import torch  # noqa: F401  # mmcv._ext links against torch's libraries

    importlib.import_module('mmcv._ext')


def check_parents(
    find_version: Callable[[str], str | None] = find_version,
    find_families: Callable[[], set[str]] = find_families,
    load_ops: Callable[[], None] = load_ops,
) -> None:
    """Check that the parents are there, of a known version and with ops.

    The arguments exist for tests; their defaults look at this machine.

    Args:
        find_version: Gives the version of an import name, None if missing.
        find_families: Gives the families found on the machine. Called only
            when there is a problem to report, since it is slow.
        load_ops: Loads ``mmcv._ext`` or raises ImportError.

    Raises:
        ImportError: Names every problem found and the commands to solve it.
    """
    versions = {parent.name: find_version(parent.name) for parent in PARENTS}
    problems = [
        (parent, what, False)
        for parent in PARENTS
        if (what := _version_problem(parent, versions))
    ]
    if 'mmcv' not in {parent.name for parent, _, _ in problems}:
        what = _ops_problem(versions['mmcv'], load_ops)
        if what:
            mmcv = next(p for p in PARENTS if p.name == 'mmcv')
            problems.append((mmcv, what, True))
    if not problems:
        return

    families = find_families()
    lines = [f'mmfgl {__version__} cannot be used here:']
    for parent, what, rebuild in problems:
        lines.append(f'- {what}')
        lines += _commands(parent, families, versions if rebuild else None)
    if len(families) > 1:
        lines.append(
            'Parents of both families are installed. They share their import'
            ' names and overwrite each other: keep one family, best in a'
            ' fresh environment.'
        )
    lines.append(
        'In a clone of mmfgl, `make install` sets up a whole environment.'
    )
    raise ImportError('\n'.join(lines))


def _version_problem(
    parent: Parent, versions: dict[str, str | None]
) -> str | None:
    """Say what is wrong with one parent's version, None if nothing is."""
    name, found = parent.name, versions[parent.name]
    minimum, maximum, why = parent.minimum, parent.maximum, ''
    mmdet = versions['mmdet']
    if (
        name == 'mmcv'
        and mmdet is not None
        and _release(mmdet) < _release(MMDET_WITHOUT_MMCV_BOUND)
    ):
        maximum, why = MMCV_MAXIMUM_FOR_MMDET_33, f' by mmdet {mmdet}'
    needed = f'{name}>={minimum},<{maximum} is needed{why}'
    if found is None:
        return f'{needed}, but {name} is not installed.'
    if _release(found) < _release(minimum):
        return f'{needed}, but {name} {found} is installed: too old.'
    if _release(found) >= _release(maximum):
        return f'{needed}, but {name} {found} is installed: too new.'
    return None


def _ops_problem(mmcv: str, load_ops: Callable[[], None]) -> str | None:
    """Say why mmcv's compiled ops do not load, None if they do."""
    try:
        load_ops()
    except ModuleNotFoundError as error:
        if error.name == 'torch':
            return (
                'torch is not installed: install torch and torchvision'
                ' first, then build mmcv against them.'
            )
        return (
            f'mmcv {mmcv} has no compiled ops (mmcv._ext is missing): it is'
            ' mmcv-lite, or was built without torch in sight. Build it again.'
        )
    except ImportError as error:
        return (
            f'the compiled ops of mmcv {mmcv} do not load, they were'
            f' probably built against another torch ({error}). Build them'
            ' again.'
        )
    return None


def _commands(
    parent: Parent,
    families: set[str],
    rebuild: dict[str, str | None] | None = None,
) -> list[str]:
    """List the commands that install ``parent``, by family.

    Args:
        parent: The package to install.
        families: Families found on the machine: with exactly one the other
            is not offered, since the two do not mix.
        rebuild: Versions found, if mmcv is to be built again as it is.
    """
    lines = []
    if parent.name == 'mmcv':
        lines.append(
            "    pip install 'setuptools>=80,<82' wheel ninja psutil packaging"
        )
    for family in FAMILIES:
        if len(families) == 1 and family not in families:
            continue
        pin, options = getattr(parent, family), ''
        if parent.name == 'mmcv':
            # mmcv builds its ops only with torch in sight.
            options = ' --no-build-isolation'
        if rebuild is not None:
            # pip would find the distribution in place, or its cached wheel.
            options += ' --no-deps --no-cache-dir --force-reinstall'
            dist = pin.split('==')[0]
            pin = f'{dist}=={Version(rebuild["mmcv"]).public}'
        env = 'MMCV_WITH_OPS=1 ' if parent.name == 'mmcv' else ''
        lines.append(f'    {env}pip install{options} {pin}  # {family}')
    return lines


def _release(version: str) -> tuple[int, ...]:
    """Three numbers of a version: 2.1.0rc1 and 2.1.0+cu121 are (2, 1, 0)."""
    parsed = Version(version)
    return (parsed.major, parsed.minor, parsed.micro)
