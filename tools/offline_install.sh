# Install the bundle beside this file, without network, into a new environment
# that sees the torch of PYTHON. tools/offline_bundle.sh puts versions before
# these lines.
#
#   [PYTHON=python3] bash install.sh VENV
#
# mmcv is compiled for the GPU of this machine, with nvcc of torch's version
# (10 to 20 min); its wheel stays in built/ beside this file, so that the next
# machine of the kind takes seconds. Without a GPU it is compiled for the CPU.
set -euo pipefail

fail() {
  printf 'install.sh: %s\n' "$*" >&2
  exit 1
}

VENV=${1:?usage: bash install.sh VENV}
PYTHON=${PYTHON:-python3}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ask() { "$PYTHON" -c "$1"; }

found=$(ask 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $found == "$PYTHON_VERSION" ]] || fail \
  "'$PYTHON' is Python $found, the bundle is for $PYTHON_VERSION: set PYTHON"
found=$(ask 'import torch; print(torch.__version__)' 2>/dev/null) || fail \
  "'$PYTHON' has no torch: set PYTHON to the interpreter that has one"
[[ $found == "$TORCH_VERSION" || $found == "$TORCH_VERSION"[.+]* ]] || fail \
  "torch is $found, the bundle is for $TORCH_VERSION: make another bundle"
missing=$("$PYTHON" - $ASSUMED <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version

for name in sys.argv[1:]:
    try:
        version(name)
    except PackageNotFoundError:
        print(name)
PY
)
[[ -z $missing ]] || fail "'$PYTHON' lacks" $missing "(the bundle counts on" \
  "them): install them there, or make the bundle with --have FILE, where" \
  "FILE is the output of '$PYTHON -m pip freeze' here"
ARCH=$(ask 'import torch
if torch.cuda.is_available():
    print("%d.%d" % torch.cuda.get_device_capability())')
if [[ -n $ARCH ]]; then
  found=$(ask 'import torch; print(torch.version.cuda)')
  [[ $found == "$CUDA_VERSION" ]] || fail \
    "torch is made for CUDA $found, the bundle for $CUDA_VERSION"
  nvcc=$("${CUDA_HOME:+$CUDA_HOME/bin/}nvcc" --version 2>/dev/null) || fail \
    'no nvcc: load the CUDA toolkit of this version, or set CUDA_HOME'
  [[ $nvcc == *"release ${CUDA_VERSION%%.*}."* ]] || fail \
    "nvcc is of another CUDA than torch ($CUDA_VERSION):" \
    "$(grep -o 'release [0-9.]*' <<<"$nvcc")"
  export FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=$ARCH
else
  echo 'No GPU visible: mmcv is compiled for the CPU alone.'
  export CUDA_VISIBLE_DEVICES=''
fi

echo '[1/4] environment'
"$PYTHON" -m venv --system-site-packages "$VENV"
BIN=$(cd "$VENV/bin" && pwd)
# Also where PYTHON is itself in an environment of this kind.
ask 'import os, torch; print(os.path.dirname(os.path.dirname(torch.__file__)))' \
  >"$("$BIN/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch_of_the_machine.pth"
mkdir -p "$BIN/../src"
SRC=$(cd "$BIN/../src" && pwd)
tar -C "$SRC" -xJf "$HERE/wheels.tar.xz"
tar -C "$SRC" -xJf "$HERE/mmfgl.tar.xz"
pip() { "$BIN/python" -m pip --disable-pip-version-check -q "$@"; }

echo '[2/4] wheels'
if compgen -G "$SRC/wheels/*.whl" >/dev/null; then
  # Also what the machine's environment has: setuptools gives Python 3.12 the
  # distutils that MMEngine imports, but only from the environment it is in.
  pip install --no-index --no-deps --ignore-installed "$SRC"/wheels/*.whl
fi

BUILT=$HERE/built/torch-$TORCH_VERSION-sm-${ARCH:-cpu}
if compgen -G "$BUILT/*.whl" >/dev/null; then
  echo "[3/4] mmcv, compiled before ($BUILT)"
else
  echo "[3/4] mmcv, compiling for ${ARCH:+GPU }${ARCH:-the CPU}"
  mkdir -p "$BUILT"
  PATH=$BIN:$PATH MMCV_WITH_OPS=1 pip wheel --no-index --no-deps \
    --no-build-isolation -w "$BUILT" "$HERE"/onedl_mmcv-*.tar.gz
fi
pip install --no-index --no-deps --force-reinstall "$BUILT"/*.whl

echo '[4/4] mmfgl, and a check of the ops'
pip install --no-index --no-deps --no-build-isolation -e "$SRC/mmfgl"
"$BIN/python" "$SRC/mmfgl/tools/check_install.py"
echo "Done: . $BIN/activate; the clone is $SRC/mmfgl"
