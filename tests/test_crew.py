"""Workers that die: replaced, and what kills them is given up; and what a crew hears."""

import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest

from cnn_research import crew, errors, ledger

KILLED, CRASHED = -signal.SIGKILL, -signal.SIGSEGV


class Book:
    """A ledger that remembers deaths."""

    def __init__(self):
        self.deaths = []

    def died(self, cells, how):
        self.deaths.append((set(cells), how))


@pytest.fixture
def fallen(monkeypatch):
    """A crew whose workers start nothing, and what lets its worker 0 end: (exit status, whether the system ran out of memory)."""
    kills, book, started = [7], Book(), []
    monkeypatch.setattr(crew, '_out_of_memory_kills', lambda: kills[0])
    monkeypatch.setattr(crew.Crew, '_start', lambda self, i: started.append(i))
    team = crew.Crew('no module', [()])

    def fall(status, out_of_memory=False, at='a'):
        team.workers[0] = crew.Worker(SimpleNamespace(exitcode=status), None, kills[0], {at} if at else set())
        kills[0] += out_of_memory
        before = len(started)
        team._replace(0, book)
        return len(started) - before

    return SimpleNamespace(fall=fall, deaths=book.deaths, crew=team)


@pytest.mark.parametrize('status', [0, 128 + signal.SIGTERM])
def test_who_is_done_or_was_asked_to_end_is_not_replaced(fallen, status):
    assert fallen.fall(status) == 0 and fallen.deaths == []


def test_a_kill_is_someones_wish_and_says_nothing_of_the_cell(fallen):
    assert fallen.fall(KILLED) == 1 and fallen.deaths == []


def test_a_kill_for_memory_and_a_crash_are_noted_of_the_cell(fallen):
    assert fallen.fall(KILLED, out_of_memory=True) == 1
    assert fallen.fall(CRASHED) == 1
    assert fallen.deaths == [({'a'}, ledger.OUT_OF_MEMORY), ({'a'}, 'SIGSEGV')]


def test_what_the_system_killed_before_a_worker_was_heard_of_says_nothing(fallen):
    fallen.fall(KILLED, out_of_memory=True)
    assert len(fallen.deaths) == 1
    fallen.fall(KILLED)
    assert len(fallen.deaths) == 1


def test_an_error_of_a_worker_and_kills_without_end_end_the_sweep(fallen):
    with pytest.raises(errors.WorkerError, match='ended with status 1'):
        fallen.fall(1)
    fallen.crew._in_vain = 0
    for _ in range(crew._TRIES):
        fallen.fall(KILLED)
    for _ in range(9):  # those are noted of their cells, which are given up
        fallen.fall(CRASHED)
        fallen.fall(KILLED, out_of_memory=True)
    with pytest.raises(errors.WorkerError, match=r'ended with status -9 \(out of memory\?\).*fewer --workers'):
        fallen.fall(KILLED)


def work(news, *what):
    """What workers of these tests do: hear nothing, or die at first."""
    (folder,) = what
    if not folder:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        news.put(('progress', 'a', 0.0))
        time.sleep(60)
    marker = os.path.join(folder, 'died')
    news.put(('progress', 'a', 0.5))
    if not os.path.exists(marker):
        open(marker, 'w').close()
        os.kill(os.getpid(), signal.SIGSEGV)
    news.put(('note', '', 'a note'))
    news.put(('done', 'a', 1.0))


@pytest.mark.slow
def test_a_worker_that_crashed_is_replaced_and_is_heard_to_its_end(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    book, team = Book(), crew.Crew('test_crew', [(str(tmp_path),)])
    team.watch(book, {'a': 1})
    assert book.deaths == [({'a'}, 'SIGSEGV')] and team.workers == {}
    assert 'a note' in capfd.readouterr().err


@pytest.mark.slow
def test_workers_that_do_not_listen_are_ended_in_time(monkeypatch):
    monkeypatch.setattr(crew, '_LEAVE', 0.5)
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    team = crew.Crew('test_crew', [('',)])
    assert team.workers[0].heard.recv() == ('progress', 'a', 0.0)
    processes = [worker.process for worker in team.workers.values()]
    started = time.monotonic()
    team.end()
    assert time.monotonic() - started < 5 and not any(process.is_alive() for process in processes)
