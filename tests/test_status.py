"""What `experiments.status` says of a run's folder, and that it changes nothing there."""

import json
import time

import pytest
from test_claims import stop

from cnn_research import claims, ledger
from experiments import status


@pytest.fixture
def book(tmp_path):
    """A run of two arms with three seeds each."""
    book = ledger.Ledger(tmp_path / 'run')
    book.create({'experiment': 'e', 'base': {}})
    book.ask([{'cell': f'{arm}-seed{seed}', 'arm': arm, 'effort': effort} for arm, effort in (('a', 10), ('b', 30)) for seed in range(3)])
    yield book
    book.claims.close()


def record(book, cell, state='ok', **more):
    with book.claim(cell):
        assert book.record({'cell': cell, 'status': state, 'seconds': 2.0, **more}, [], {})


def told(book, capsys, *args):
    with pytest.raises(SystemExit) as e:
        status.main(['status', *(args or (str(book.folder),))])
    out = capsys.readouterr()
    return e.value.code, out.out, out.err


def test_of_every_cell_it_says_where_it_stands(book, capsys):
    record(book, 'a-seed0')
    record(book, 'a-seed1', 'failed', error='RuntimeError: out of memory (it takes 3.2 GB at least)')
    record(book, 'b-seed0', 'diverged', diverged_at=17, diverged_in='params/stage_0/kernel')
    with book.claim('b-seed1'):
        book.claims.says = json.dumps([{'cell': 'b-seed1', 'share': 0.5}])
        end = time.monotonic() + 20
        while not any(beat.says for beat in book.claims.beats()) and time.monotonic() < end:
            time.sleep(0.05)
        before = {path: path.read_bytes() for path in book.folder.rglob('*.jsonl')}
        code, out, err = told(book, capsys)
    assert (code, err) == (0, '')
    # a cell of effort 10 took 2 seconds: half of 30, 30 and 10 are left for one process
    assert out.splitlines()[0].endswith('6 cells, 1 done, 1 running, 2 waiting, 1 failed, 1 diverged, about 11 s left')
    assert 'running: b-seed1, 50 %' in out
    assert 'failed: a-seed1: RuntimeError: out of memory (it takes 3.2 GB at least)' in out and '--retry' in out
    assert 'diverged: b-seed0 at step 17, in params/stage_0/kernel' in out
    rows = [line.split() for line in out.splitlines() if line.startswith(('a  ', 'b  '))]
    assert rows == [['a', '1', '0', '1', '1', '0'], ['b', '0', '1', '1', '0', '1']]
    assert {path: path.read_bytes() for path in book.folder.rglob('*.jsonl')} == before


def test_results_are_told_though_nobody_noted_what_was_asked(book, capsys):
    record(book, 'a-seed0', arm='a')
    (book.folder / 'cells.jsonl').unlink()
    assert told(book, capsys)[1].splitlines()[0].endswith('1 cells, 1 done')


def test_a_cell_of_another_host_runs_while_its_counter_moves(book, capsys, monkeypatch):
    monkeypatch.setattr(claims, 'BEAT', 0.1)
    monkeypatch.setattr(status, '_WATCHED', 0.5)
    other = claims.Claims(book.folder / 'claims')
    other.token = 'elsewhere-1-2-3'
    other.says = json.dumps([{'cell': 'a-seed0', 'share': 0.25}])
    assert other.claim('a-seed0')
    assert 'running: a-seed0, 25 %' in told(book, capsys)[1]
    stop(other)
    assert 'running' not in told(book, capsys)[1]


def test_what_is_not_the_folder_of_a_run_is_refused(book, capsys, tmp_path):
    assert told(book, capsys, str(tmp_path))[::2] == (
        2,
        f'status: {tmp_path}/study.json cannot be read (No such file or directory): is this the --workdir of a run?\n',
    )
    for args in ((), ('a', 'b'), ('--workdir=x',)):
        with pytest.raises(SystemExit) as e:
            status.main(['status', *args])
        assert e.value.code == 2 and 'give the folder of one run' in capsys.readouterr().err
    assert told(book, capsys, '--help')[1].startswith('What is done')
