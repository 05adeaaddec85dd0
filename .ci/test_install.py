"""Build sdist and wheel and try the wheel from an empty folder.

The wheel goes into an empty environment that sees the parents of this one,
but not its editable mmfgl::

    python .ci/test_install.py
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = (
    'mmfgl::fgl_faster_rcnn/'
    'fgl-faster-rcnn_efficientnet-lite0_fpn_1xb8-400_aquarium.py'
)
# Light: neither the networks nor mmdet come with the package.
LIGHT = """import sys, mmfgl
heavy = {'mmdet', 'mmpretrain', 'mmfgl.registry', 'timm'} & {*sys.modules}
assert not heavy, heavy
assert sys.argv[1] in mmfgl.__file__, mmfgl.__file__
"""
NAMES = """import sys, mmengine.hub, mmfgl
from mmfgl.registry import MODELS
for name in mmfgl.__all__:
    getattr(mmfgl, name)
cfg = mmengine.hub.get_config(sys.argv[1])
assert cfg.to_dict() == mmfgl.get_config(sys.argv[1]).to_dict()
assert type(MODELS.build(cfg.model)) is mmfgl.FGLFasterRCNN
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command without PYTHONPATH; return what it prints."""
    print('$', *(str(part).split('\n')[0] for part in command), flush=True)
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
    )
    if done.returncode:
        sys.exit(f'{done.stdout}\nfailed with status {done.returncode}')
    return done.stdout


def tracked() -> set[str]:
    """Files that sdist and wheel must hold, relative to mmfgl/."""
    names = subprocess.check_output(
        ['git', 'ls-files', 'mmfgl', 'configs', 'tools', 'model-index.yml'],
        cwd=ROOT,
        text=True,
    ).splitlines()
    links = {f'mmfgl/.mim/{x}' for x in ('configs', 'tools')}
    return {
        name if name.startswith('mmfgl/') else f'mmfgl/.mim/{name}'
        for name in names
    } - links


def build(folder: Path) -> Path:
    """Build the wheel from the sdist; check what both hold."""
    run(
        sys.executable, '-W', 'ignore', '-m', 'build', '--no-isolation',
        '--outdir', folder, ROOT, cwd=folder,
    )  # fmt: skip
    (sdist,), (wheel,) = folder.glob('*.tar.gz'), folder.glob('*.whl')
    with tarfile.open(sdist) as file:
        members = [x for x in file.getmembers() if not x.isdir()]
    odd = [x.name for x in members if not x.isfile()]
    inside = {x.name.partition('/')[2] for x in members}
    with zipfile.ZipFile(wheel) as file:
        missing = tracked() - inside | tracked() - {*file.namelist()}
    if odd or missing:
        sys.exit(f'links in the sdist: {odd}; missing: {sorted(missing)}')
    return wheel


def empty_environment(folder: Path) -> Path:
    """Make one that sees this one's packages but mmfgl; its bin/."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / 'bin' / 'python'
    purelib = run(
        python,
        '-c',
        'import sysconfig; print(sysconfig.get_path("purelib"))',
        cwd=folder,
    ).strip()
    # A path in a .pth file is added, the .pth files in it are not read: the
    # editable mmfgl of this environment stays away.
    paths = {sysconfig.get_path('purelib'), sysconfig.get_path('platlib')}
    Path(purelib, 'parents.pth').write_text('\n'.join(paths))
    return python.parent


def main() -> None:
    """Build, install and try."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheels, empty = folder / 'wheels', folder / 'empty'
        wheels.mkdir()
        empty.mkdir()
        wheel = build(wheels)
        bin_folder = empty_environment(folder / 'venv')
        python = bin_folder / 'python'
        run(
            sys.executable, '-m', 'pip', '--python', python, 'install',
            '--quiet', '--no-deps', '--no-index', '--ignore-installed', wheel,
            cwd=empty,
        )  # fmt: skip
        ignore = ('-W', 'ignore')
        run(python, *ignore, '-c', LIGHT, folder / 'venv', cwd=empty)
        run(python, *ignore, '-c', NAMES, CONFIG, cwd=empty)
        for command in ([bin_folder / 'mmfgl'], [python, '-m', 'mmfgl']):
            help_text = run(*command, '--help', cwd=empty)
            if 'predict' not in help_text:
                sys.exit(f'no subcommands in the help:\n{help_text}')
        tool = 'from mmfgl.utils.paths import installed as i; print(i("tools"'
        train = run(
            python, *ignore, '-c', f'{tool}, "train.py"))', cwd=empty
        ).strip()
        run(python, train, '--help', cwd=empty)
        left = [path.name for path in empty.iterdir()]
        if left:
            sys.exit(f'left in the folder: {left}')
    print('1 passed, 0 failed')


if __name__ == '__main__':
    main()
