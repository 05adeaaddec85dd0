#!/usr/bin/env bash
# Run SCRIPT of this folder in GPUS processes: dist_train.sh and dist_test.sh
# call this; see there.   bash tools/_dist_run.sh GPUS SCRIPT [arguments]
set -euo pipefail

GPUS=$1
SCRIPT=$2
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}

if ! [[ $GPUS =~ ^[1-9][0-9]*$ ]]; then
    echo "GPUS must be the number of processes per node, got '$GPUS'" >&2
    exit 2
fi
if [ -z "${PORT:-}" ] && [ "$NNODES" -gt 1 ]; then
    PORT=29500
    echo "NNODES=$NNODES and no PORT: using $PORT. All nodes have to agree;" \
        "set the same PORT on each of them to change it." >&2
elif [ -z "${PORT:-}" ]; then
    PORT=$("$PYTHON" -c "import socket; s = socket.socket(); \
s.bind(('127.0.0.1', 0)); print(s.getsockname()[1])")
fi

# torchrun would give each process a single thread; on a CPU that leaves
# cores idle when there are fewer processes than cores.
CORES=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
SHARE=$((CORES / GPUS))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((SHARE > 0 ? SHARE : 1))}
export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}
# Waiting threads sleep: spinning ones are slow on cores that are busy.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
export PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}"

exec "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="$PORT" \
    --nproc_per_node="$GPUS" \
    "$HERE/$SCRIPT" "${@:3}" --launcher pytorch
