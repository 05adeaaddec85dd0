#!/usr/bin/env bash
# Train on a Slurm cluster.
#
#   GPUS=8 bash tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR \
#       [arguments of tools/train.py]
#
# waits for the run and shows its output. With BATCH=1 in the environment it is
# a batch job instead (output: WORK_DIR/slurm-JOBID.out), which survives its
# time limit: Slurm sends SIGUSR1 two minutes before, training saves and ends
# with status 75, and the job is queued again and resumes. Preemption
# (SIGTERM) saves and ends it likewise. `scancel` ends it for good.
#
# Environment: GPUS (in all, default 8), GPUS_PER_NODE (8), CPUS_PER_TASK (5),
# SRUN_ARGS (more options of srun and sbatch, such as --time=4:00:00), PORT,
# PYTHON, BATCH.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash $0 PARTITION JOB CONFIG WORK_DIR" \
        "[arguments of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB=$2
CONFIG=$3
WORK_DIR=$4
# sbatch runs a copy of this file that lies elsewhere
HERE=${MMFGL_TOOLS:-$(cd "$(dirname "$0")" && pwd)}
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
REQUEUE=75 # mmfgl.engine.hooks.robust.preemption_hook.REQUEUE
if [ "$GPUS" -lt "$GPUS_PER_NODE" ]; then
    GPUS_PER_NODE=$GPUS
fi
OPTIONS=(
    --partition="$PARTITION"
    --job-name="$JOB"
    --gres="gpu:$GPUS_PER_NODE"
    --ntasks="$GPUS"
    --ntasks-per-node="$GPUS_PER_NODE"
    --cpus-per-task="${CPUS_PER_TASK:-5}"
    --signal=USR1@120
)
if [ -n "${BATCH:-}" ] && [ -z "${SLURM_JOB_ID:-}" ]; then
    mkdir -p "$WORK_DIR"
    export MMFGL_TOOLS=$HERE
    # shellcheck disable=SC2086  # SRUN_ARGS holds several words
    exec sbatch "${OPTIONS[@]}" --requeue --open-mode=append \
        --output="$WORK_DIR/slurm-%j.out" ${SRUN_ARGS:-} \
        "$HERE/slurm_train.sh" "$@"
fi

# One port for all tasks. Which ports are free on the first node is not known
# here, so a random one keeps two jobs on one node apart.
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 10000))}
export PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}"

RUN=(
    srun "${OPTIONS[@]}" --kill-on-bad-exit=1
    # shellcheck disable=SC2206  # SRUN_ARGS holds several words
    ${SRUN_ARGS:-}
    "${PYTHON:-python}" -u "$HERE/train.py" "$CONFIG"
    --work-dir "$WORK_DIR" --launcher slurm "${@:5}"
)
if [ -z "${SLURM_JOB_ID:-}" ]; then
    exec "${RUN[@]}"
fi

CODE=0
"${RUN[@]}" || CODE=$?
if [ "$CODE" -eq "$REQUEUE" ]; then
    # not a job that was cancelled, or that Slurm queues again itself
    STATE=$(squeue -h -j "$SLURM_JOB_ID" -o %T 2>/dev/null || true)
    if [ "${STATE:-RUNNING}" = RUNNING ]; then
        echo "stopped and saved: job $SLURM_JOB_ID is queued again"
        scontrol requeue "$SLURM_JOB_ID" || true
    fi
fi
exit "$CODE"
