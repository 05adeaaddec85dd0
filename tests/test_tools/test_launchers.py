"""The shell launchers: dist_train.sh, dist_test.sh, slurm_train.sh."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmfgl.testing.data import tiny_coco

ROOT = Path(__file__).parents[2]
CONFIG = str(Path(__file__).with_name('tiny_detector.py'))


@pytest.fixture
def fake_python(tmp_path):
    """An interpreter that runs `-c CODE` but only prints other commands."""
    path = tmp_path / 'python'
    path.write_text(
        '#!/bin/sh\n'
        f'if [ "$1" = -c ]; then exec "{sys.executable}" "$@"; fi\n'
        'echo "OMP=$OMP_NUM_THREADS MASTER_PORT=$MASTER_PORT"\n'
        'echo "own store: $TORCH_DISABLE_SHARE_RDZV_TCP_STORE"\n'
        'printf "%s\\n" "$@"\n'
    )
    path.chmod(0o755)
    return path


def launch(script, *arguments, **env):
    names = (
        'SLURM_JOB_ID',
        'PORT',
        'NNODES',
        'OMP_NUM_THREADS',
        'GPUS',
        'MASTER_PORT',
    )
    clean = {k: v for k, v in os.environ.items() if k not in names}
    return subprocess.run(
        ['bash', str(ROOT / 'tools' / script), *map(str, arguments)],
        env=clean | {k: str(v) for k, v in env.items()},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ('script', 'arguments', 'message'),
    [
        ('dist_train.sh', 'CONFIG', 'usage.*CONFIG'),
        ('dist_train.sh', 'CONFIG --amp', "got '--amp'"),
        ('dist_test.sh', 'CONFIG CHECKPOINT', 'usage.*CONFIG CHECKPOINT'),
        ('slurm_train.sh', 'PARTITION JOB', 'usage.*PARTITION JOB CONFIG'),
    ],
)
def test_usage(script, arguments, message):
    result = launch(script, *arguments.split())
    assert result.returncode == 2
    assert re.search(message, result.stderr, re.S)


def test_dist_commands(fake_python):
    arguments = ('C', 'K', 1, '--out', 'a b.pkl')
    result = launch('dist_test.sh', *arguments, PYTHON=fake_python)
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f'OMP={len(os.sched_getaffinity(0))} ')
    (port,) = (x for x in lines if x.startswith('--master_port='))
    assert 1024 < int(port.split('=')[1]) < 65536
    assert lines[-6:-2] == ['C', 'K', '--out', 'a b.pkl']
    assert lines[-2:] == ['--launcher', 'pytorch']

    result = launch('dist_train.sh', 'C', 2, PYTHON=fake_python, PORT=1234)
    assert '--master_port=1234' in result.stdout
    assert '--nproc_per_node=2' in result.stdout
    assert 'own store: \n' in result.stdout
    # the store of a start that died would lead the next one to the dead
    again = dict(PYTHON=fake_python, PORT=1234, MAX_RESTARTS=3)
    result = launch('dist_train.sh', 'C', 2, **again)
    assert '--max_restarts=3' in result.stdout
    assert '--rdzv_endpoint=127.0.0.1:1234' in result.stdout
    assert 'own store: 1\n' in result.stdout
    # nodes share a port
    nodes = dict(PYTHON=fake_python, NNODES=2, NODE_RANK=1)
    result = launch('dist_train.sh', 'C', 8, **nodes, MASTER_ADDR='a')
    assert '--master_port=29500' in result.stdout
    assert 'same PORT' in result.stderr
    # all of them would wait for each other
    result = launch('dist_train.sh', 'C', 8, **nodes)
    assert result.returncode == 2 and 'needs MASTER_ADDR' in result.stderr
    nodes |= dict(MASTER_ADDR='a', NODE_RANK=2)
    result = launch('dist_train.sh', 'C', 8, **nodes)
    assert result.returncode == 2 and 'must be 0 to 1, got' in result.stderr


def test_exit_status_of_torchrun(fake_python):
    fake_python.write_text('#!/bin/sh\nexit 3\n')
    result = launch('dist_train.sh', 'C', 1, PYTHON=fake_python, PORT=1234)
    assert result.returncode == 3


@pytest.mark.parametrize(('code', 'status'), [(0, 75), (1, 1)])
def test_launcher_passes_signals_on(fake_python, code, status):
    """The shell waits until the processes, not torchrun, have reacted.

    One that could not save is no reason to queue the job again.
    """
    fake_python.write_text(
        '#!/bin/bash\n'
        'bash -c \'trap "sleep 0.3; echo done; '
        f'exit {code}" TERM; '
        'kill "$0"; while sleep 0.1; do :; done\' "$PPID" &\n'
        'wait $!\n'
    )
    result = launch('dist_train.sh', 'C', 1, PYTHON=fake_python, PORT=1234)
    assert (result.returncode, result.stdout) == (status, 'done\n')


def test_slurm_command(fake_python, tmp_path):
    (tmp_path / 'srun').symlink_to(fake_python)
    result = launch(
        'slurm_train.sh',
        *('part', 'job', 'C', 'dir', '--amp'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS=4,
    )
    lines = result.stdout.splitlines()
    assert int(lines[0].split('MASTER_PORT=')[1]) >= 20000
    assert {'--gres=gpu:4', '--ntasks=4'} <= set(lines)
    expected = 'C --work-dir dir --launcher slurm --amp'
    assert lines[-6:] == expected.split()


@pytest.mark.parametrize(
    ('code', 'state', 'requeued'),
    [(75, 'RUNNING', True), (75, 'CANCELLED', False), (1, 'RUNNING', False)],
)
def test_slurm_requeues_a_stopped_job(tmp_path, code, state, requeued):
    commands = dict(
        srun=f'exit {code}',
        squeue=f'echo {state}',
        scontrol='echo called "$@"',
        sbatch='echo submitted "$@"',
    )
    for name, command in commands.items():
        (tmp_path / name).write_text(f'#!/bin/sh\n{command}\n')
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}:{os.environ["PATH"]}'
    arguments = ('slurm_train.sh', 'part', 'job', 'C', tmp_path / 'dir')
    result = launch(*arguments, PATH=path, SLURM_JOB_ID=9)
    assert result.returncode == code
    assert ('called requeue 9' in result.stdout) == requeued
    result = launch(*arguments, PATH=path, BATCH=1)
    assert '--signal=USR1@120 --requeue' in result.stdout


def test_two_processes_train_on_the_cpu(tmp_path):
    """The one test that starts processes: DDP over gloo, with validation."""
    root = tmp_path / 'digits'
    data = tiny_coco(root, num_images=4, num_val=2, num_unlabelled=1)
    work_dir = tmp_path / 'work_dir'
    result = launch(
        'dist_train.sh',
        *(CONFIG, 2, '--work-dir', work_dir),
        *('--cfg-options', f'data_root={data}', 'train_cfg.val_interval=1'),
        PYTHON=sys.executable,
        CUDA_VISIBLE_DEVICES=-1,
        OMP_NUM_THREADS=1,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (log,) = work_dir.glob('*/*.log')
    assert 'GPU number: 2' in log.read_text()
    (file,) = work_dir.glob('*/vis_data/scalars.json')
    losses = [row for row in map(json.loads, file.open()) if 'loss' in row]
    assert len(losses) == 2  # half as many as on one process
    assert 'Epoch(val) [1][1/1]' in log.read_text()
    assert (work_dir / 'epoch_1.pth').is_file()
