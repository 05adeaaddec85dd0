#!/usr/bin/env bash
# Install mmfgl, its parents and its tools into a virtual environment.
# Called by `make install`; the order matters, because mmcv compiles its C++
# ops against the torch that is installed.
#
#   VENV=.venv PYTHON=python3 PARENTS=onedl bash tools/install.sh
#
# PARENTS      onedl (default) or openmmlab
# TORCH_INDEX  index of another torch build, e.g.
#              https://download.pytorch.org/whl/cpu (no CUDA, 5 GB less)
# MAX_JOBS     compiler processes for mmcv (default: cores, 2 GB each)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}
PARENTS=${PARENTS:-onedl}
TORCH_INDEX=${TORCH_INDEX:-}
LOG=$VENV/install.log
STEPS=7
STEP=0

fail() {
  printf '\nmake install: %s\n' "$*" >&2
  exit 1
}

# Stopped by run() or, after Ctrl-C, by the exit of the script.
HEARTBEAT=
stop_heartbeat() {
  if [[ -n $HEARTBEAT ]]; then kill "$HEARTBEAT" 2>/dev/null || true; fi
  HEARTBEAT=
}
trap stop_heartbeat EXIT

# run TITLE EXPECTED COMMAND...: log the output, tell the time each minute.
run() {
  local title=$1 expected=$2 start=$SECONDS status=0
  shift 2
  printf '%s (%s)\n' "$title" "$expected"
  printf '\n== %s\n$ %s\n' "$title" "$*" >>"$LOG"
  # sleep must not hold a pipe open behind `make install | tee`.
  while sleep 60 >/dev/null 2>&1; do
    printf '    still at it after %d s\n' $((SECONDS - start))
  done &
  HEARTBEAT=$!
  "$@" >>"$LOG" 2>&1 </dev/null || status=$?
  stop_heartbeat
  if ((status == 0)); then
    printf '    done in %d s\n' $((SECONDS - start))
  else
    printf '    failed after %d s\n' $((SECONDS - start))
  fi
  return "$status"
}

step() {
  STEP=$((STEP + 1))
  local title="[$STEP/$STEPS] $1"
  shift
  run "$title" "$@" || fail_with_log
}

fail_with_log() {
  printf '\nLast lines of %s:\n' "$LOG" >&2
  tail -n 40 "$LOG" >&2
  fail "${1:-a step failed; the whole output is in $LOG}"
}

check_machine() {
  local python=$1
  "$python" -c 'import sys' 2>/dev/null || fail \
    "'$python' does not run. Install Python 3.10 or later, or name one:" \
    "make install PYTHON=/path/to/python3.11"
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail \
    "Python 3.10 or later is needed, '$python' is" \
    "$("$python" -c 'import platform; print(platform.python_version())')." \
    "Name another one: make install PYTHON=/path/to/python3.11"
  if [[ $PARENTS == openmmlab ]]; then
    "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 12))' || fail \
      "PARENTS=openmmlab needs Python 3.10 or 3.11 (torch 2.1 has no wheels" \
      "for later ones), '$python' is" \
      "$("$python" -c 'import platform; print(platform.python_version())')." \
      "Name another one: make install PARENTS=openmmlab PYTHON=python3.11"
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || fail \
    "'$python' cannot make virtual environments. On Debian or Ubuntu:" \
    "apt install python3-venv"
  "$python" -c 'import os, sys, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
sys.exit(not os.path.exists(header))' || fail \
    "Python.h is missing, mmcv's C++ ops cannot be compiled. On Debian or" \
    "Ubuntu: apt install python3-dev"
  # What torch.utils.cpp_extension calls: $CXX, else c++.
  local cxx=${CXX:-c++}
  command -v "${cxx%% *}" >/dev/null || fail \
    "no C++ compiler: '$cxx' is not on the PATH, mmcv's C++ ops cannot be" \
    "compiled. On Debian or Ubuntu: apt install g++ (or set CXX)"
  echo '#include <optional>' |
    $cxx -std=c++17 -fsyntax-only -x c++ - 2>/dev/null || fail \
    "the C++ compiler '$cxx' does not compile C++17. Install g++ 9 or" \
    "later, or set CXX"
}

# pip would tell it after minutes of downloads.
check_disk() {
  local needed=$DISK free
  if [[ -n $TORCH_INDEX ]]; then needed=$((DISK / 2)); fi
  free=$(df -Pk "$VENV" | awk 'NR == 2 {print int($4 / 1048576)}')
  ((free >= needed)) || fail \
    "$VENV takes $needed GB, and $free GB of its disk are free. Free some," \
    "or name a place on another disk: make install VENV=/scratch/me/mmfgl." \
    "A torch without CUDA takes half of it:" \
    "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
}

pip_install() { "$VENV/bin/python" -m pip install "$@"; }

install_torch() {
  # The pins come from the requirement file, used as constraints.
  pip_install -c "$REQUIREMENTS" torch torchvision \
    ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}
}

install_mmcv() {
  MMCV_WITH_OPS=1 MAX_JOBS=$JOBS pip_install --no-build-isolation \
    -c "$REQUIREMENTS" "$MMCV" "$@"
}

MMCV_CAUSES="Typical causes:
- the compiler failed: search $LOG for 'error:'; too little memory shows as
  'Killed', then try make install MAX_JOBS=1
- a GPU is visible but the CUDA toolkit (nvcc) of torch's version is not: set
  CUDA_HOME, or build for the CPU only with CUDA_VISIBLE_DEVICES= make install"

check_ops() { "$VENV/bin/python" tools/check_install.py --ops; }

# mmcv asks for opencv-python, which needs libGL and has no selective search,
# and mmdet's imaug for opencv-python-headless besides: three distributions of
# one module, each overwriting the other's files. The pinned one serves all.
use_one_opencv() {
  "$VENV/bin/python" -m pip uninstall --yes opencv-python \
    opencv-python-headless opencv-contrib-python \
    opencv-contrib-python-headless
  pip_install --no-deps "$(grep -o '^opencv-contrib-python-headless==[^ ]*' \
    "$REQUIREMENTS")"
}

case $PARENTS in
  onedl) REQUIREMENTS=requirements.txt MMCV=onedl-mmcv DISK=9 ;;
  openmmlab) REQUIREMENTS=requirements/openmmlab.txt MMCV=mmcv DISK=6 ;;
  *) fail "PARENTS is '$PARENTS'; it must be onedl or openmmlab" ;;
esac

if [[ -x $VENV/bin/python ]]; then
  check_machine "$VENV/bin/python"
else
  check_machine "$PYTHON"
fi
if [[ -f $VENV/.parents && $(<"$VENV/.parents") != "$PARENTS" ]]; then
  fail "$VENV holds the $(<"$VENV/.parents") family, and the two cannot" \
    "share an environment. Name another one (make install" \
    "PARENTS=$PARENTS VENV=.venv-$PARENTS) or remove $VENV"
fi

JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}
if [[ -z ${MAX_JOBS:-} && -r /proc/meminfo ]]; then
  memory=$(awk '/MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
  JOBS=$((memory < 1 ? 1 : memory < JOBS ? memory : JOBS))
fi

echo "Installing mmfgl with the $PARENTS parents into $VENV."
echo 'About 20 minutes on 2 cores the first time, of which 10 to 15 compile'
echo "mmcv; 3 GB of downloads, $DISK GB on the disk (torch brings CUDA with it)."
mkdir -p "$VENV"
: >"$LOG"
compgen -G "$VENV/lib/python*/site-packages/torch" >/dev/null || check_disk
if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
  STEP=1
  echo "[1/$STEPS] virtual environment $VENV (there already)"
else
  step "virtual environment $VENV" 'under a minute' "$PYTHON" -m venv "$VENV"
fi
echo "$PARENTS" >"$VENV/.parents"
step 'torch and torchvision' '2 to 10 min, downloads' install_torch
step 'build tools' 'under a minute' \
  pip_install -r requirements/build.txt -c "$REQUIREMENTS"
STEP=$((STEP + 1))
run "[$STEP/$STEPS] mmcv with its C++ ops, $JOBS compiler processes" \
  'about 10 min on 2 cores the first time, then a cached wheel' \
  install_mmcv || fail_with_log "mmcv was not built. $MMCV_CAUSES"
run '    one OpenCV' 'under a minute' use_one_opencv || fail_with_log
if ! run '    check of the ops' 'seconds' check_ops; then
  # A cached wheel may lack the ops or belong to another torch.
  run '    mmcv once more, from its sources' 'about 10 min on 2 cores' \
    install_mmcv --no-deps --no-cache-dir --force-reinstall ||
    fail_with_log "mmcv was not built. $MMCV_CAUSES"
  run '    check of the ops' 'seconds' check_ops || fail_with_log \
    "mmcv was built, but its C++ ops do not work (see above). $MMCV_CAUSES"
fi

step 'the other parents, weights, test, docs and lint tools' \
  '1 to 3 min, downloads' \
  pip_install -r "$REQUIREMENTS" -r requirements/run.txt \
  -r requirements/export.txt -r requirements/demo.txt \
  -r requirements/docs.txt -r requirements/tests.txt \
  -c requirements/build.txt
step 'one OpenCV, with selective search' 'under a minute' use_one_opencv
step 'mmfgl itself, editable' 'under a minute' \
  pip_install -e . --no-deps --no-build-isolation

"$VENV/bin/python" tools/check_install.py || fail 'the installation is broken'
printf 'Installed in %d s. Activate it with: . %s/bin/activate\n' \
  "$SECONDS" "$VENV"
