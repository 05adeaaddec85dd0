"""The version of mmfgl, and a check of the packages it builds on."""

import importlib.util
import runpy
import warnings
from pathlib import Path

from packaging.specifiers import SpecifierSet

__version__ = '0.1.0'

# Import names, the same in both families of distributions.
PARENTS = dict(
    mmengine='>=0.10.0,<1.0.0',
    mmcv='>=2.1.0,<3.0.0',
    mmdet='>=3.3.0,<4.0.0',
    mmpretrain='>=1.2.0,<2.0.0',
)
HELP = (
    'Install one family of them, after torch: `make install` (onedl-*) or '
    '`make install PARENTS=openmmlab` (the originals); without a clone '
    "MMCV_WITH_OPS=1 pip install --no-build-isolation 'mmfgl[onedl]' (or "
    "'mmfgl[openmmlab]')."
)


def find_version(name: str) -> str | None:
    """Version of a package, without importing it; None if it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    # a literal, or a look-up of the distribution: running it serves both
    path = Path(spec.origin).with_name('version.py')
    return runpy.run_path(str(path))['__version__']


def check_parents() -> None:
    """Check that the parents are there, of a known version and with ops.

    Raises:
        ImportError: Names every problem and what to install.
    """
    found = {name: find_version(name) for name in PARENTS}
    problems = []
    for name, needed in PARENTS.items():
        version, why = found[name], ''
        # mmdet 3.3 asserts it; onedl-mmdetection begins at 3.4
        if name == 'mmcv' and (found['mmdet'] or '').startswith('3.3.'):
            needed, why = '>=2.1.0,<2.2.0', f' by mmdet {found["mmdet"]}'
        if not (version and SpecifierSet(needed).contains(version, True)):
            seen = f'{version or "no version of it"} is installed'
            problems.append(f'{name}{needed} is needed{why}, but {seen}')
    try:
        if not problems:
            import torch  # noqa: F401  (mmcv._ext links against it)

            with warnings.catch_warnings():
                # MMEngine 0.10.7 imports it
                deprecated = 'pkg_resources is deprecated'
                warnings.filterwarnings('ignore', message=deprecated)
                importlib.import_module('mmcv._ext')
    except ImportError as error:
        problems.append(
            f'mmcv {found["mmcv"]} has no compiled ops that load ({error}): '
            'it is mmcv-lite, or was built without torch or for another one; '
            'remove it, then build it with --no-cache-dir'
        )
    if problems:
        lines = '\n'.join(f'- {problem}' for problem in problems)
        raise ImportError(
            f'mmfgl {__version__} cannot be used here:\n{lines}\n{HELP}'
        )
