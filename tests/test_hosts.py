"""Two processes with four devices each are one training: killed, it goes on as one process with eight devices, or with one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cnn_research import checkpoint, errors, layout, ledger

ROOT = Path(__file__).parent.parent
# Not by Adam, which makes a whole step of a gradient that is nothing but rounding.
TRAINING = ('--arms=conv_gmp', '--seeds=1', '--epochs=8', '--optimizer=sgd', '--learning_rate=0.02', '--save_every=0.3')


def started(folder, *more, devices=1):
    command = [sys.executable, '-m', 'experiments.weight_sharing', *TRAINING, f'--workdir={folder}', *more]
    env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def two(folder):
    """Two processes of four devices each that train in step."""
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    return [started(folder, f'--distributed=localhost:{port},2,{i}', devices=4) for i in range(2)]


def ended(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def until_saved(folder, processes):
    until = time.monotonic() + 200
    while not checkpoint.numbers(folder / 'states', 'conv_gmp-seed0'):
        assert time.monotonic() < until and all(process.poll() is None for process in processes), [ended(p) for p in processes]
        time.sleep(0.05)


def result(folder):
    """The row, the history, and the parameters of the only cell."""
    book = ledger.Ledger(folder)
    (row,) = book.results().values()
    losses = [entry['train_loss'] for entry in book.history()]
    (path,) = (folder / 'params').glob('*.npz')
    with np.load(path, allow_pickle=False) as found:
        return row, losses, dict(found)


def assert_same(found, wanted):
    (row, losses, params), (its_row, its_losses, its_params) = found, wanted
    assert row['status'] == its_row['status'] == 'ok' and len(losses) == len(its_losses) == 8
    np.testing.assert_allclose(losses, its_losses, rtol=1e-3)
    for name, value in params.items():
        np.testing.assert_allclose(value, its_params[name], atol=1e-3, err_msg=name)


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp('alone') / 'run'
    status, _, err = ended(started(folder, '--workers=1'))
    assert status == 0, err
    return result(folder)


@pytest.mark.slow
def test_two_processes_are_killed_and_one_goes_on_with_eight_devices_or_with_one(alone, tmp_path):
    killed = tmp_path / 'killed'
    processes = two(killed)
    until_saved(killed, processes)
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate()
    for name, more, devices in (('eight', ('--data_parallel=8',), 8), ('one', ('--workers=1',), 1)):
        folder = tmp_path / name
        shutil.copytree(killed, folder)
        status, _, err = ended(started(folder, *more, devices=devices))
        assert status == 0 and ('goes on elsewhere than it began' in err) == (devices == 1), err
        assert_same(result(folder), alone)
        assert not list((folder / 'states').iterdir())


@pytest.mark.slow
def test_a_signal_to_either_ends_both_and_their_work_is_kept(alone, tmp_path):
    folder = tmp_path / 'run'
    processes = two(folder)
    until_saved(folder, processes)
    before = max(checkpoint.numbers(folder / 'states', 'conv_gmp-seed0'))
    processes[1].send_signal(signal.SIGTERM)
    outcomes = [ended(process) for process in processes]
    assert [status for status, _, _ in outcomes] == [128 + signal.SIGTERM] * 2, outcomes
    assert max(checkpoint.numbers(folder / 'states', 'conv_gmp-seed0')) > before
    outcomes = [ended(process) for process in two(folder)]
    assert [status for status, _, _ in outcomes] == [0, 0], outcomes
    assert 'conv_gmp' in outcomes[0][1] and outcomes[1][1].count('conv_gmp') == 0  # the first alone speaks
    assert_same(result(folder), alone)


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_all(tmp_path):
    (tmp_path / 'study.json').write_text(json.dumps({'format': 0}))
    outcomes = [ended(process) for process in two(tmp_path)]
    for status, out, err in outcomes:
        assert status == 2 and 'conv_gmp' not in out and 'is damaged, or of another version of this package' in err, (status, err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('flags', 'devices', 'says'),
    [
        (['--data_parallel=2', '--model_parallel=2'], [1, 1], 'the processes differ in what they are asked for'),
        (['--batch_size=64', '--batch_size=64'], [1, 2], 'every process must have as many devices as the others, here they have 1, 2'),
    ],
)
def test_processes_that_differ_all_end(flags, devices, says, tmp_path):
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = free.getsockname()[1]
    processes = [started(tmp_path, f'--distributed=localhost:{port},2,{i}', flags[i], devices=devices[i]) for i in range(2)]
    for status, out, err in [ended(process) for process in processes]:
        assert status == 2 and 'conv_gmp' not in out and says in err and not (tmp_path / 'study.json').exists()


def ends(code, signals=(), seconds=0.0):
    """(exit status, standard error) of Python code that says when it begins, and is then sent signals."""
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'begins\n', process.communicate()
    for number in signals:
        process.send_signal(number)
        time.sleep(seconds)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_a_second_signal_ends_a_process_that_waits_for_others():
    code = (
        'import ctypes, signal; from cnn_research import in_step; in_step.Asked().listen(); in_step._end_at_second_signal()\n'
        'print("begins", flush=True); lock = ctypes.create_string_buffer(64)\n'
        'for _ in range(2): ctypes.CDLL(None).pthread_mutex_lock(lock)'  # as a collective does, it waits and runs no handler
    )
    assert ends(code, [signal.SIGTERM, signal.SIGTERM], 1.2)[0] == 128 + signal.SIGTERM


@pytest.mark.parametrize(('error', 'why'), [('RuntimeError("RESOURCE_EXHAUSTED")', ledger.OUT_OF_MEMORY), ('ValueError("no")', None)])
def test_an_error_that_others_may_not_have_met_is_noted_at_its_cell(error, why, tmp_path):
    code = f"""
import json, pathlib
from cnn_research import in_step, ledger
print('begins', flush=True)
own = ledger.Ledger(pathlib.Path({str(tmp_path)!r}))
own.create({{'experiment': 'e'}})
own.claims.says = json.dumps([{{'cell': 'a'}}])
in_step._end_alone(type('Book', (), {{'own': own, 'claims': own.claims}}), 'e', {error})
"""
    for times in (1, 2):
        status, err = ends(code)
        assert status == 1 and 'Error: ' in err and (tmp_path / 'study.json').exists()
        doomed = ledger.Ledger(tmp_path).doomed('a')
        assert doomed == why or (why is None and (doomed is None) == (times == 1))


def test_a_signal_that_a_finalizer_loses_comes_again():
    code = """
import signal, sys, time, weakref
from cnn_research import crew, keeping
keeping.Asked().listen()
sys.unraisablehook = crew.end_again
class Any: pass
one = Any()
held = weakref.ref(one, lambda _: signal.raise_signal(signal.SIGTERM))
print('begins', flush=True)
del one
time.sleep(30)
"""
    assert ends(code) == (128 + signal.SIGTERM, '')


def test_addresses():
    assert layout.address('auto') is None and layout.address('node7:1234,4,3') == ('node7:1234', 4, 3)
    for wrong in (
        '',
        'node7',
        'node7:1234',
        'node7:1234,4,4',
        'node7:1234,0,0',
        ':1234,2,0',
        'a b:1,2,0',
        'node7:1234,2,-1',
        'node7:0,2,0',
        'node7:65536,2,0',
    ):
        with pytest.raises(errors.InputError, match='distributed must be auto, or HOST:PORT,PROCESSES,INDEX'):
            layout.address(wrong)
