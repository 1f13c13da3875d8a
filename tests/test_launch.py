"""Where a sweep runs: as a SLURM array, on several devices, under the profiler; and which flags for that are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_cli import TINY, run

from cnn_research import layout, slurm, sweep, trainings
from cnn_research.config import Config
from experiments import flags, launching, weight_sharing

ROOT = Path(__file__).parent.parent
COMMAND = (sys.executable, '-m', 'experiments.weight_sharing', *TINY)
# Runs the one task of an array at once, as a cluster would, and says its number as sbatch does.
SBATCH = """#!/bin/bash
[ "$1" = --parsable ] && grep -q '^#SBATCH --array=0-0$' "$2" || exit 9
cd "$(sed -n "s/^#SBATCH --chdir=//p" "$2")" && SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=0 bash "$2" > "$(dirname "$2")/slurm/7_0.log" 2>&1
echo '7;one'
"""


def command(*args, **environment):
    """What the command says: (exit status, standard output, standard error)."""
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu', **environment}
    done = subprocess.run([*COMMAND, *args], cwd=ROOT, env=env, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder of programs that are found before all others."""
    folder = tmp_path / 'tools'
    folder.mkdir()
    monkeypatch.setenv('PATH', f'{folder}:{os.environ["PATH"]}')

    def add(name, text):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    return add


def rows(folder):
    return [json.loads(line) for line in (folder / 'results.jsonl').read_text().splitlines()]


def test_a_dry_run_prints_the_script_and_makes_nothing(tmp_path):
    where = tmp_path / 'a folder'
    status, out, err = command(
        '--launcher=slurm', '--dry_run', '--tasks', '3', '--sbatch=--partition=gpu --time=4:00:00', f'--workdir={where}'
    )
    assert (status, err) == (0, '') and not where.exists()
    lines = out.splitlines()
    assert '#SBATCH --array=0-2' in lines and lines.index('#SBATCH --partition=gpu') > lines.index('#SBATCH --requeue')
    assert f"{sys.executable} -m experiments.weight_sharing {' '.join(TINY)} '--workdir={where}' &" in lines
    subprocess.run(['bash', '-n'], input=out, text=True, check=True)


def test_tasks_submit_nothing_whatever_the_flags_came_from(tmp_path):
    (tmp_path / 'flags').write_text('--launcher=slurm\n--tasks=2\n--epochs=3\n--nodry_run\n')
    status, out, _ = command(f'--flagfile={tmp_path}/flags', '--dry_run', f'--workdir={tmp_path}/w')
    words = next(line for line in out.splitlines() if line.startswith(sys.executable)).split()
    assert status == 0 and not {'slurm', 'flagfile', 'tasks', 'dry_run', 'nodry_run'} & {
        word.partition('=')[0].strip('-') for word in words
    }
    assert '--epochs=3' in words and not any('slurm' in word for word in words)
    file = ROOT / 'experiments/weight_sharing.py'
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, file, '--launcher=slurm', '--dry_run', '--seeds=1'], cwd=tmp_path, env=env, capture_output=True)
    assert f'\n{sys.executable} {file} --seeds=1 &\n' in done.stdout.decode()


@pytest.mark.parametrize('folder', ['a\ntouch pwned', 'a\rb', 'a\x1b[0m'])
def test_what_no_line_of_a_script_can_hold_is_refused(folder, tmp_path):
    status, out, err = command('--launcher=slurm', '--dry_run', f'--workdir={tmp_path}/{folder}')
    assert (status, out) == (2, '') and 'characters that are not printed' in err


def test_a_percent_sign_in_a_folder_stays_one(tmp_path):
    assert f'#SBATCH --output={tmp_path}/50%%j/slurm/%A_%a.log' in slurm.script('name', ['true'], tmp_path / '50%j', 1, [])


@pytest.mark.slow
def test_a_sweep_is_submitted_as_it_is_shown_and_its_tasks_do_the_work(tools, tmp_path):
    tools('sbatch', SBATCH)
    flags = ('--launcher=slurm', '--tasks=1', f'--workdir={tmp_path}/a run')
    shown = command(*flags, '--dry_run')[1]
    status, out, err = command(*flags)
    assert (status, err) == (0, '') and 'job 7: 1 tasks' in out
    assert (tmp_path / 'a run/slurm.sh').read_text() == shown
    assert [row['status'] for row in rows(tmp_path / 'a run')] == ['ok', 'ok']
    assert 'conv_gmp' in (tmp_path / 'a run/slurm/7_0.log').read_text()


def test_words_of_slurm_that_refuses_are_passed_on(tools, tmp_path):
    tools('sbatch', '#!/bin/bash\necho "sbatch: error: invalid partition specified: gpu" >&2; exit 1\n')
    status, out, err = command('--launcher=slurm', f'--workdir={tmp_path}/w')
    assert (status, out) == (2, '') and err.startswith('weight_sharing: SLURM refuses the job: sbatch: error: invalid partition')


@pytest.mark.parametrize(
    ('asked', 'ends_with', 'again'),
    [(signal.SIGUSR1, 143, True), (signal.SIGUSR1, 0, False), (signal.SIGUSR1, 1, False), (signal.SIGTERM, 143, False)],
)
def test_a_task_whose_time_is_up_goes_back_into_the_queue_and_one_that_is_cancelled_does_not(asked, ends_with, again, tools, tmp_path):
    tools('scontrol', f'#!/bin/bash\necho "$@" > {tmp_path}/asked\n')
    work = ['bash', '-c', f'trap "exit {ends_with}" TERM; touch {tmp_path}/begun; while :; do sleep 0.05; done']
    text = slurm.script('name', work, tmp_path, 1, [])
    env = {**os.environ, 'SLURM_ARRAY_JOB_ID': '7', 'SLURM_ARRAY_TASK_ID': '3'}
    # What is ignored when bash starts it cannot hear, and commands that ran in this process may have left it so.
    heard = f'import os, signal, sys; signal.signal({int(asked)}, signal.SIG_DFL); os.execvp("bash", ["bash", "-c", sys.argv[1]])'
    process = subprocess.Popen([sys.executable, '-c', heard, text], env=env)
    until = time.monotonic() + 30
    while not (tmp_path / 'begun').exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(asked)
    assert process.wait(30) == ends_with
    assert (tmp_path / 'asked').exists() == again and (not again or (tmp_path / 'asked').read_text() == 'requeue 7_3\n')


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        (['--tasks=3'], ['tasks is for --launcher=slurm']),
        (['--dry_run', '--sbatch=--partition=gpu'], ['sbatch is for', 'dry_run is for']),
        (['--launcher=slrum'], ["did you mean 'slurm'?"]),
        (['--launcher=slurm', '--tasks=0', '--sbatch=partition=gpu'], ['tasks must be', "'partition=gpu'"]),
        (['--launcher=slurm', '--sbatch=--wrap="a'], ['sbatch cannot be read']),
        (['--launcher=slurm'], ['sbatch was not found']),
        (['--launcher=slurm', '--distributed=auto'], ['leave one of them out']),
        (['--distributed=localhost:99999,2,0'], ['distributed must be']),
        (['--distributed=here'], ['distributed must be auto, or HOST:PORT,PROCESSES,INDEX']),
        (['--distributed=auto', '--workers=2'], ['leave --workers out']),
        (['--data_parallel=0', '--model_parallel=-1'], ['data_parallel must be', 'model_parallel must be']),
        (['--data_parallel=300', '--model_parallel=2'], ['--data_parallel=300 times --model_parallel=2 takes 600 devices']),
    ],
)
def test_bad_ways_to_run_are_said_and_nothing_is_made(args, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('PATH', str(tmp_path / 'none'))
    assert run(weight_sharing, *(word for word in TINY if word != '--workers=1'), *args) == 2
    out, err = capsys.readouterr()
    found = err.splitlines()
    assert out == '' and len(found) == len(words) and all(word in line for word, line in zip(words, found)), found
    assert list(tmp_path.iterdir()) == []


def test_a_task_of_an_array_submits_no_other(monkeypatch, capsys):
    monkeypatch.setenv('SLURM_ARRAY_TASK_ID', '3')
    assert run(weight_sharing, *TINY, '--launcher=slurm') == 2
    assert 'this is a task of an array' in capsys.readouterr().err


def test_tasks_of_an_array_leave_each_other_seeds():
    cells = [sweep.Cell(arm, seed, Config(), 1) for arm in 'ab' for seed in range(5)]
    how = sweep.How(1, parallel=layout.Wish(2))
    assert [len(team) for team in trainings.teams(cells, 'cpu', how)] == [5, 5]
    assert [len(team) for team in trainings.teams(cells, 'cpu', how._replace(together=2))] == [2, 2, 1, 2, 2, 1]
    rest = trainings.teams(cells[3:], 'cpu', how._replace(together=2))  # the others are done: the same seeds stay together
    assert [[cell.name for cell in team] for team in rest[:2]] == [['a-seed3'], ['a-seed4']]
    assert [len(team) for team in trainings.teams(cells, 'cpu', sweep.How(1))] == [1] * 10


def test_one_device_for_each_batch_is_no_wish_on_a_cpu(monkeypatch):
    flags.define()
    weight_sharing_flags = flags.FLAGS
    for name in weight_sharing_flags:
        weight_sharing_flags[name].unparse()
    weight_sharing_flags(['x', '--data_parallel=1'])
    assert launching.how(weight_sharing_flags).parallel is None
    weight_sharing_flags(['x', '--data_parallel=1', '--model_parallel=2'])
    assert launching.how(weight_sharing_flags).parallel == layout.Wish(1, 2)


@pytest.mark.slow
def test_seeds_and_batches_share_devices_and_change_nothing_but_rounding(tmp_path):
    plain, shared = tmp_path / 'plain', tmp_path / 'shared'
    assert command(f'--workdir={plain}')[0] == 0
    status, _, err = command(f'--workdir={shared}', '--data_parallel=2', '--model_parallel=2', JAX_NUM_CPU_DEVICES='8')
    assert status == 0, err
    for one, other in zip(*(sorted(rows(folder), key=lambda row: row['cell']) for folder in (plain, shared)), strict=True):
        assert one['status'] == other['status'] == 'ok' and one['config'] == other['config']
        assert one['train_loss'] == pytest.approx(other['train_loss'], rel=1e-3)


@pytest.mark.slow
def test_a_profile_is_a_trace_of_a_few_steps_of_every_arm(tmp_path):
    more = ('--arms=conv_gmp,dense_gmp', '--epochs=12', '--train_size=1024', '--profile', f'--workdir={tmp_path}')
    status, out, err = command(*more)
    assert status == 0, err
    assert (
        f'traces of conv_gmp, dense_gmp in {tmp_path}/profiles: pip install xprof, then xprof --logdir={tmp_path}/profiles/conv_gmp' in out
    )
    for arm in ('conv_gmp', 'dense_gmp'):
        (trace,) = (tmp_path / 'profiles' / arm).glob('plugins/profile/*/*.xplane.pb')
        assert trace.stat().st_size > 10_000
