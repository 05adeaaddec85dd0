#!/usr/bin/env bash
# Run SCRIPT of this folder in GPUS processes: dist_train.sh and dist_test.sh
# call this; see there.   bash tools/_dist_run.sh GPUS SCRIPT [arguments]
set -euo pipefail

GPUS=$1
SCRIPT=$2
HERE=$(cd "$(dirname "$0")" && pwd)
PYTHON=${PYTHON:-python}
NNODES=${NNODES:-1}
REQUEUE=75 # mmfgl.engine.hooks.robust.preemption_hook.REQUEUE

if ! [[ $GPUS =~ ^[1-9][0-9]*$ ]]; then
    echo "GPUS must be the number of processes per node, got '$GPUS'" >&2
    exit 2
fi
if ! [[ $NNODES =~ ^[1-9][0-9]*$ ]]; then
    echo "NNODES must be the number of nodes, got '$NNODES'" >&2
    exit 2
fi
if [ "$NNODES" -gt 1 ]; then # with defaults, all nodes would wait
    for NAME in MASTER_ADDR NODE_RANK; do
        if [ -z "${!NAME:-}" ]; then
            echo "NNODES=$NNODES needs $NAME on each node: MASTER_ADDR is the" \
                "host name of node 0, NODE_RANK 0 to $((NNODES - 1))" >&2
            exit 2
        fi
    done
    if ! [[ $NODE_RANK =~ ^[0-9]+$ ]] || [ "$NODE_RANK" -ge "$NNODES" ]; then
        echo "NODE_RANK must be 0 to $((NNODES - 1)), got '$NODE_RANK'" >&2
        exit 2
    fi
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

# torchrun gives its processes 30 s after a signal, and SIGUSR1 ends it alone.
# So it gets none (its own session), and the processes get them from here: they
# save after the step in hand, however long that takes. A second one ends all.
STOPPED=
EARLY= # there was no process yet to stop
stop() {
    if [ -z "$STOPPED" ] && [ "$SCRIPT" = train.py ]; then
        STOPPED=1
        # shellcheck disable=SC2046  # several numbers
        kill $(cat "/proc/$AGENT/task/$AGENT/children") 2>/dev/null &&
            return 0 # `return` alone is the status before the trap
        EARLY=1
    fi
    kill -TERM "$AGENT" 2>/dev/null || true
}
SESSION=$(command -v setsid || true)
MASTER=${MASTER_ADDR:-127.0.0.1}
MEET=(
    --node_rank="${NODE_RANK:-0}" --master_addr="$MASTER" --master_port="$PORT"
)
if [ "${MAX_RESTARTS:-0}" -gt 0 ]; then
    # the static way to meet keeps the addresses of the dead (torch 2.10), and
    # so does this one, unless each start has a store of its own
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    MEET=(--rdzv_backend=c10d --rdzv_endpoint="$MASTER:$PORT")
    if [ "$NNODES" -eq 1 ]; then
        MEET+=(--local_addr="$MASTER")
    fi
fi
$SESSION "$PYTHON" -m torch.distributed.run \
    --nnodes="$NNODES" \
    "${MEET[@]}" \
    --nproc_per_node="$GPUS" \
    --max_restarts="${MAX_RESTARTS:-0}" \
    "$HERE/$SCRIPT" "${@:3}" --launcher pytorch &
AGENT=$!
trap stop TERM INT USR1 HUP

CODE=0
while :; do # a signal interrupts `wait`
    CODE=0
    wait "$AGENT" || CODE=$?
    kill -0 "$AGENT" 2>/dev/null || break
done
# a run that could not save must not be sent round again and again
if [ -n "$EARLY" ] || { [ -n "$STOPPED" ] && [ "$CODE" -eq 0 ]; }; then
    exit "$REQUEUE"
fi
exit "$CODE"
