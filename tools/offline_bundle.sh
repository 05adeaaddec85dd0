#!/usr/bin/env bash
# Gather mmfgl and all that it needs beside an existing torch into a folder, for
# machines without network. Run it where there is one:
#
#   bash tools/offline_bundle.sh --python 3.12 --torch 2.11 --cuda 13.0 \
#       --have have.txt --out bundle/
#
# --python, --torch, --cuda  what the other machine has (x86_64 Linux)
# --have   output of `pip freeze` there: what it lists is not taken along, but
#          for packages that requirements.txt wants in another version.
#          Without it, $IMAGE below is taken to be there, which NVIDIA's images
#          of PyTorch should hold; install.sh checks it. /dev/null: nothing but
#          torch and torchvision is there.
# Then, over there:   bash bundle/install.sh VENV   (see its head)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  printf 'offline_bundle: %s\n' "$*" >&2
  exit 1
}

OUT='' PYTHON_VERSION='' TORCH_VERSION='' CUDA_VERSION='' HAVE=
# What torch and torchvision ask for themselves, and common scientific packages.
IMAGE=(numpy pillow networkx jinja2 markupsafe filelock fsspec sympy
  typing-extensions scipy scikit-learn joblib threadpoolctl narwhals matplotlib
  contourpy cycler fonttools kiwisolver pyparsing python-dateutil)
# What metadata asks for but nothing of mmfgl imports: image corruptions of
# mmdet's imaug, compiled by numba; TIFF by imageio; downloads by Hugging Face.
UNUSED=(numba llvmlite imagecorruptions-imaug tifffile hf-xet)
while (($#)); do
  (($# > 1)) || fail "$1 needs a value"
  case $1 in
    --python) PYTHON_VERSION=$2 ;;
    --torch) TORCH_VERSION=$2 ;;
    --cuda) CUDA_VERSION=$2 ;;
    --have) HAVE=$2 ;;
    --out) OUT=$2 ;;
    *) fail "no option $1; see the head of this script" ;;
  esac
  shift 2
done
for name in PYTHON_VERSION TORCH_VERSION CUDA_VERSION OUT; do
  [[ -n ${!name} ]] || fail "--$(sed 's/_.*//; s/.*/\L&/' <<<"$name") is missing"
done
[[ $TORCH_VERSION =~ ^[0-9]+[.][0-9]+$ ]] ||
  fail "--torch takes a version like 2.11, got $TORCH_VERSION"
[[ -z $HAVE || -r $HAVE ]] || fail "--have: cannot read $HAVE"
PYTHON=${PYTHON:-${VENV:-.venv}/bin/python}
"$PYTHON" -m pip --version >/dev/null 2>&1 ||
  fail "'$PYTHON -m pip' does not run: make install, or set PYTHON"
command -v xz >/dev/null || fail 'xz is missing (apt install xz-utils)'

OUT=$(mkdir -p "$OUT" && cd "$OUT" && pwd)
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
mkdir "$WORK/own" "$WORK/wheels"
ASSUMED=()
if [[ -z $HAVE ]]; then
  HAVE=$WORK/image.txt ASSUMED=("${IMAGE[@]}")
  printf '%s\n' "${IMAGE[@]}" >"$HAVE"
  echo "Not taken, to be there beside torch: ${IMAGE[*]}"
fi
pip() { "$PYTHON" -m pip "$@" --quiet --disable-pip-version-check; }

pin() { grep -o "^$1==[^ ]*" requirements.txt; }
PARENTS=(onedl-mmengine onedl-mmdetection onedl-mmpretrain)
echo '[1/4] the parents: wheels, and the source of mmcv'
for name in "${PARENTS[@]}"; do
  pip wheel --no-deps --no-build-isolation -w "$WORK/own" "$(pin "$name")"
done
pip download --no-deps --no-build-isolation --no-binary onedl-mmcv \
  -d "$OUT" "$(pin onedl-mmcv)"

echo '[2/4] what they need, for the other Python'
# Stands for the torch over there: its real wheels are 3 GB.
"$PYTHON" - "$WORK/own" "$TORCH_VERSION" <<'PY'
import sys
import zipfile

folder, version = sys.argv[1:]
minor = int(version.split('.')[1])
# torchvision 0.26 is the release for torch 2.11
for name, release in (('torch', version), ('torchvision', f'0.{minor + 15}')):
    release += '+there'
    info = f'{name}-{release}.dist-info'
    path = f'{folder}/{name}-{release}-py3-none-any.whl'
    tags = 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n'
    with zipfile.ZipFile(path, 'w') as wheel:
        wheel.writestr(
            f'{info}/METADATA',
            f'Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n',
        )
        wheel.writestr(f'{info}/WHEEL', tags)
        wheel.writestr(f'{info}/RECORD', '')
PY
{
  echo "torch==$TORCH_VERSION+there"
  echo "torchvision==0.$((${TORCH_VERSION#*.} + 15))+there"
  grep -hv '^#\|^torch\|^onedl-mmcv' requirements.txt requirements/build.txt
  grep -h '^pytest' requirements/tests.txt
} >"$WORK/wanted.txt"
TARGET=(--only-binary=:all: --implementation cp
  --python-version "$PYTHON_VERSION" --find-links "$WORK/own")
for glibc in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014 \
  manylinux_2_12 manylinux_2_5 manylinux1; do
  TARGET+=(--platform "${glibc}_x86_64")
done
pip install --dry-run --ignore-installed --target "$WORK/none" \
  --report "$WORK/report.json" "${TARGET[@]}" -r "$WORK/wanted.txt"
"$PYTHON" - "$WORK/report.json" "$HAVE" "${UNUSED[@]}" \
  >"$WORK/missing.txt" <<'PY'
import json
import re
import sys


def key(name):
    return re.sub(r'[-_.]+', '-', name).lower()


with open('requirements.txt') as file:
    pins = dict(re.findall(r'^([\w-]+)==([\w.]+)', file.read(), re.M))
there = set()
with open(sys.argv[2]) as file:
    for line in file:
        name, *rest = re.split(r'[=@ ;\s]+', line.strip())
        if '==' not in line or pins.get(name, rest[0]) == rest[0]:
            there.add(key(name))
with open('requirements/build.txt') as file:  # others may be too old
    there -= {key(name) for name in re.findall(r'^[\w-]+', file.read(), re.M)}
there |= {'torch', 'torchvision', *sys.argv[3:]}
# the same module as opencv-contrib-python-headless, which is taken
ends = ('python', 'python-headless', 'contrib-python')
there |= {f'opencv-{end}' for end in ends}
for item in json.load(open(sys.argv[1]))['install']:
    name, version = (item['metadata'][k] for k in ('name', 'version'))
    if key(name) not in there:
        print(f'{name}=={version}')
PY
pip download --no-deps "${TARGET[@]}" -d "$WORK/wheels" \
  -r "$WORK/missing.txt"

echo '[3/4] packing (4 min of a core)'
# Stored instead of deflated, so that xz sees the content: a third smaller.
"$PYTHON" - "$WORK/wheels" <<'PY'
import pathlib
import sys
import zipfile

for path in pathlib.Path(sys.argv[1]).glob('*.whl'):
    with zipfile.ZipFile(path) as old:
        members = [(info, old.read(info)) for info in old.infolist()]
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as new:
        for info, content in members:
            info.compress_type = zipfile.ZIP_STORED
            new.writestr(info, content)
PY
tar -C "$WORK" --sort=name -c wheels |
  xz --lzma2=preset=9e,dict=256MiB >"$OUT/wheels.tar.xz"
git archive --prefix=mmfgl/ HEAD | xz -9e >"$OUT/mmfgl.tar.xz"

echo '[4/4] the installer'
{
  echo "#!/usr/bin/env bash"
  echo "PYTHON_VERSION=$PYTHON_VERSION TORCH_VERSION=$TORCH_VERSION"
  echo "CUDA_VERSION=$CUDA_VERSION ASSUMED='${ASSUMED[*]}'"
  cat tools/offline_install.sh
} >"$OUT/install.sh"
printf '%s: %s in %d wheels, mmcv and mmfgl as source.\n' "$OUT" \
  "$(du -sh "$OUT" | cut -f1)" "$(wc -l <"$WORK/missing.txt")"
echo "Copy it, and run there: bash $(basename "$OUT")/install.sh VENV"
