#!/usr/bin/env bash
# Train on several GPUs, or in several CPU processes where there is no GPU.
#
#   bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#
# Environment: NNODES, NODE_RANK, MASTER_ADDR, PORT for several nodes (on one
# node a free port is chosen); PYTHON, the interpreter; OMP_NUM_THREADS
# (default: the cores shared out among the processes); MAX_RESTARTS, how often
# torchrun starts all processes again after one has died (default 0): they
# resume by themselves.
#
# SIGTERM, SIGUSR1 or Ctrl-C to this script stop training after the step in
# hand, with a checkpoint; the exit status is then 75. A second one ends it.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/_dist_run.sh" "$2" train.py "$1" "${@:3}"
