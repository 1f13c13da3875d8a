"""Sweeps survive: killed, shared or run by any number of workers they give the same results to the bit, each cell once."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_research import config, cost, errors, ledger, sweep

pytestmark = pytest.mark.xdist_group('sweep')  # they share one undisturbed run
COMMAND = (sys.executable, '-m', 'experiments.weight_sharing', '--arms=conv_gmp', '--seeds=5', '--epochs=40')
COMMAND += ('--train_size=256', '--features=2,3')
TIMES = {'seconds', 'sha256', 'attempt'}  # and what depends on them


def start(folder, *more, before=(), **options):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where the tests run with Ctrl-C ignored, what they start would ignore it too
    return subprocess.Popen(
        [*before, *COMMAND, f'--workdir={folder}', *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )


def finish(process, status=0):
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err
    return out, err


def lines(folder, name):
    path = folder / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def bits(folder):
    """Everything that a run found out, without times and order: results, history, parameters."""

    def without_times(name):
        return sorted(json.dumps({k: v for k, v in row.items() if k not in TIMES}, sort_keys=True) for row in lines(folder, name))

    return without_times('results.jsonl'), without_times('history.jsonl'), {p.name: p.read_bytes() for p in (folder / 'params').iterdir()}


def children(pid):
    found = []
    for entry in os.listdir('/proc'):
        with contextlib.suppress(OSError, ValueError), open(f'/proc/{int(entry)}/stat') as file:
            if int(file.read().rsplit(')', 1)[1].split()[1]) == pid:
                found.append(int(entry))
    return found


def running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except OSError:
        return False


def gone(pids, seconds=20):
    """Whether all processes end in time."""
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    return not any(map(running, pids))


def wait_for_rows(folder, process, number):
    while len(lines(folder, 'results.jsonl')) < number:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp('undisturbed')
    finish(start(folder, '--workers=1'))
    return folder


@pytest.mark.slow
def test_a_killed_sweep_resumes_to_the_same_bits_and_repeats_nothing(undisturbed, tmp_path):
    process = start(tmp_path, '--workers=2')
    wait_for_rows(tmp_path, process, 2)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    assert gone(workers), 'workers outlive a killed parent'
    kept = (tmp_path / 'results.jsonl').read_bytes()
    kept = kept[: kept.rfind(b'\n') + 1]
    finish(start(tmp_path, '--workers=2'))
    assert (tmp_path / 'results.jsonl').read_bytes().startswith(kept)
    assert bits(tmp_path) == bits(undisturbed)


@pytest.mark.slow
def test_two_commands_at_once_share_the_cells(undisturbed, tmp_path):
    both = [start(tmp_path, '--workers=1') for _ in range(2)]
    for process in both:
        finish(process)
    assert bits(tmp_path) == bits(undisturbed)


@pytest.mark.slow
def test_one_or_two_workers_give_the_same_bits(undisturbed, tmp_path):
    finish(start(tmp_path, '--workers=2'))
    assert bits(tmp_path) == bits(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_soon_with_its_status_and_one_line(number, tmp_path):
    process = start(tmp_path, '--workers=2', '--epochs=2000', start_new_session=True)
    time.sleep(8)
    workers = children(process.pid)
    asked = time.monotonic()
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = finish(process, 128 + number)
    assert time.monotonic() - asked < 10
    assert err.strip().splitlines()[-1].startswith('weight_sharing: interrupted')
    assert 'Traceback' not in err
    assert gone(workers)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(undisturbed, tmp_path):
    # Six blocks of 512 bytes for any file: as on a full disk, a write fails half way.
    limited = ('sh', '-c', 'ulimit -f 6; exec "$@"', 'sh')
    _, err = finish(start(tmp_path, '--workers=1', before=limited), 2)
    assert 'the disk is full' in err.strip().splitlines()[-1]
    assert 'Traceback' not in err
    assert all(path.read_bytes().endswith(b'\n') for path in tmp_path.glob('*.jsonl') if path.stat().st_size)
    assert not list(tmp_path.rglob('*.tmp'))
    finish(start(tmp_path, '--workers=1'))
    assert bits(tmp_path) == bits(undisturbed)


def states(folder):
    return sorted(path.name for path in (folder / 'states').glob('*')) if (folder / 'states').exists() else []


def wait_until(true, process, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(undisturbed, tmp_path):
    process = start(tmp_path, '--workers=2')
    for rows in (1, 3):
        wait_for_rows(tmp_path, process, rows)
        os.kill(max(children(process.pid)), signal.SIGKILL)
    finish(process)
    assert bits(tmp_path) == bits(undisturbed)


LONG = ('--seeds=1', '--workers=1', '--epochs=600', '--save_every=3600')


@pytest.mark.slow
def test_a_signal_saves_what_a_training_is_at_and_it_goes_on_from_there_to_the_same_bits(tmp_path):
    finish(start(tmp_path / 'whole', *LONG))
    folder = tmp_path / 'stopped'
    process = start(folder, *LONG)
    wait_until((folder / 'cells.jsonl').exists, process)
    # What is sent before the training has begun is not heard, so it is sent until it is.
    wait_until(lambda: process.send_signal(signal.SIGUSR1) or time.sleep(0.2) or states(folder), process)
    process.send_signal(signal.SIGTERM)
    finish(process, 128 + signal.SIGTERM)
    assert lines(folder, 'results.jsonl') == [] and not list((folder / 'claims').iterdir())
    saved = states(folder)
    assert 1 <= len(saved) <= 2 and all(name.startswith('conv_gmp-seed0.') for name in saved)
    finish(start(folder, *LONG))
    assert bits(folder) == bits(tmp_path / 'whole') and states(folder) == []


def test_what_failed_runs_again_only_if_asked_and_what_lost_its_parameters_always(tmp_path):
    book, cells = ledger.Ledger(tmp_path), [sweep.Cell('a', seed, config.Config(), 1) for seed in range(3)]
    book.create({})
    for cell, status in zip(cells, ('ok', 'failed', 'diverged')):
        with book.claim(cell.name):
            book.record(
                {'cell': cell.name, 'status': status, 'config': cell.config.to_json()}, [], {'w': np.ones(2)} if status == 'ok' else {}
            )
    assert sweep.missing(book, cells) == [] and sweep.missing(book, cells, retry=True) == [cells[1]]
    next((tmp_path / 'params').glob('a-seed0.*.npz')).unlink()
    assert sweep.missing(book, cells) == [cells[0]]
    book.claims.close()


@pytest.mark.slow
def test_a_folder_that_is_deleted_under_a_run_is_one_line(tmp_path):
    folder = tmp_path / 'run'
    process = start(folder, '--workers=2', '--save_every=1')
    wait_for_rows(folder, process, 1)
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    _, err = finish(process, 2)
    assert 'cannot write to' in err.strip().splitlines()[-1] and 'give another --workdir' in err
    assert 'Traceback' not in err, err
    assert not folder.exists()


CELLS = st.lists(st.tuples(st.sampled_from('abcde'), st.integers(0, 9), st.integers(0, 10**7)), unique_by=lambda cell: cell[:2])


@given(CELLS, st.integers(1, 4))
def test_workers_start_with_arms_of_their_own_and_all_of_them_know_every_cell(cells, workers):
    cells = [sweep.Cell(arm, seed, config.Config(), macs) for arm, seed, macs in cells]
    arms, dealt, own = {cell.arm for cell in cells}, sweep.shares(cells, workers), []
    assert len(dealt) == workers
    for mine in dealt:
        assert sorted(cell.name for cell in mine) == sorted(cell.name for cell in cells)
    for first, mine in enumerate(dealt[: len(arms)]):
        started = [cell.arm for cell in mine[: len([cell for cell in cells if cell.arm == mine[0].arm])]]
        assert len(set(started)) == 1, (first, started)
        own.append(started[0])
    assert len(set(own)) == len(own)


def test_workers_have_as_much_to_do_and_help_from_the_end():
    one, two, three, four = (sweep.Cell(arm, 0, config.Config(), macs) for arm, macs in (('a', 4), ('b', 3), ('c', 2), ('d', 1)))
    assert sweep.shares([four, two, one, three], 2) == [[one, four, three, two], [two, three, four, one]]


def test_memory_is_shared_by_the_processes_that_there_are(tmp_path, monkeypatch):
    """One cell is run by one process, whatever --workers says, with all of the memory."""
    made = []

    class Crew:
        def __init__(self, module, arguments):
            made.extend(arguments)

        def watch(self, *args):
            pass

        def end(self):
            pass

    monkeypatch.setattr(sweep.crew, 'Crew', Crew)
    monkeypatch.setattr(cost, 'memory', lambda: 1000)
    book = ledger.Ledger(tmp_path)
    book.create({})
    cell = sweep.Cell('a', 0, config.Config(), 1, need=900)
    with pytest.raises(errors.WorkerError, match='run the same command again'):  # nobody ran it
        sweep.run(book, 'e', [cell], sweep.Source(None, None), sweep.How(1000))
    assert len(made) == 1 and made[0][5] is None
