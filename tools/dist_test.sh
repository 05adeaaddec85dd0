#!/usr/bin/env bash
# Test on several GPUs, or in several CPU processes where there is no GPU.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
#
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several nodes (on one
# node a free port is chosen); PYTHON, the interpreter; OMP_NUM_THREADS
# (default: the cores shared out among the processes).
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash $0 CONFIG CHECKPOINT GPUS" \
        "[arguments of tools/test.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/_dist_run.sh" "$3" test.py "$1" "$2" "${@:4}"
