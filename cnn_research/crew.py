"""Worker processes: started, listened to, replaced when they die, ended in time (imports no jax; each worker does)."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

import tqdm

from cnn_research import errors, ledger

# Seconds that workers have to save and end when they are told to: people wait, and SLURM kills after half a minute.
_LEAVE = 25.0 if 'SLURM_ARRAY_TASK_ID' in os.environ else 4.0
_TRIES = 3  # workers in a row that may be killed without a cell done between: more would do no better


class News:
    """A worker's end of what it tells: `put` sends, and does nothing when nobody listens any more."""

    def __init__(self, pipe: connection.Connection):
        self._pipe = pipe

    def put(self, what: tuple[str, str, Any]) -> None:
        """what: (kind, cell, value): ('progress' | 'done', cell, share), ('note', '', text), ('error', '', messages)."""
        with contextlib.suppress(OSError):
            self._pipe.send(what)


class Bar:
    """Progress on standard error, where that is a terminal. effort: by cell."""

    def __init__(self, effort: Mapping[str, int], hidden: bool = False):
        form = '{desc} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left'
        self._bar = tqdm.tqdm(total=sum(effort.values()), bar_format=form, disable=hidden or None, file=sys.stderr)
        self._effort, self._share, self._done, self._hidden = effort, dict.fromkeys(effort, 0.0), set[str](), hidden
        self._describe()

    def __enter__(self) -> 'Bar':
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def hear(self, kind: str, cell: str, value: Any) -> None:
        """Show what a worker tells, see `News.put`."""
        if kind == 'note':
            if not self._hidden:
                self._bar.write(value, file=sys.stderr)
            return
        self._done |= {cell} if kind == 'done' else set()
        self._bar.update(max(0.0, value - self._share[cell]) * self._effort[cell])
        self._share[cell] = max(self._share[cell], value)
        self._describe()

    def _describe(self) -> None:
        self._bar.set_description_str(f'{len(self._done)} of {len(self._share)} cells')


@dataclasses.dataclass
class Worker:
    """A process, what is heard of it, the cells that it is at, and how many processes had lacked memory when it was last heard of."""

    process: Any
    heard: connection.Connection
    kills: int
    at: set[str] = dataclasses.field(default_factory=set)


class Crew:
    """The workers of a sweep.

    module: whose `work` a worker calls. arguments: those of each, but for the first, which is its `News`.
    """

    def __init__(self, module: str, arguments: Sequence[tuple]):
        self._module, self._arguments = module, arguments
        self._context = multiprocessing.get_context('spawn')
        self._in_vain = 0
        self.workers: dict[int, Worker] = {}
        for i in range(len(arguments)):
            self._start(i)

    def _start(self, i: int) -> None:
        heard, told = self._context.Pipe(duplex=False)
        args = (self._module, News(told), *self._arguments[i])
        process = self._context.Process(target=_work, args=args, daemon=True)
        with _unheard(signal.SIGUSR1):  # a worker is born deaf to it, until it listens
            process.start()
        told.close()
        self.workers[i] = Worker(process, heard, _out_of_memory_kills())

    def watch(self, book: ledger.Ledger, effort: Mapping[str, int]) -> None:
        """Show progress on standard error until every worker has left, and replace those that die.

        effort: by cell. What a killed worker was at goes on in another one, unless it is what killed it (`Ledger.died`).

        Raises:
          InputError: the first that a worker met. WorkerError: a worker ended with an error, or was killed again and again.
        """
        with Bar(effort) as bar, _passing_on(signal.SIGUSR1, self):
            while self.workers:
                for i, (kind, cell, value) in self._news():
                    if kind == 'error':
                        raise errors.InputError(*value)
                    if kind == 'ended':
                        self._replace(i, book)
                    else:
                        bar.hear(kind, cell, value)
                        if cell:
                            self._at_work(i, cell, kind == 'done')

    def _at_work(self, i: int, cell: str, done: bool) -> None:
        """Note what a worker is at, or has done."""
        worker = self.workers[i]
        worker.kills = _out_of_memory_kills()
        worker.at.add(cell)
        if done:
            worker.at.discard(cell)
            self._in_vain = 0

    def _news(self) -> Iterator[tuple[int, tuple[str, str, Any]]]:
        """What workers tell next, with their number; the last of each is ('ended', '', None)."""
        by_pipe = {worker.heard: i for i, worker in self.workers.items()}
        for pipe in connection.wait(list(by_pipe)):
            i = by_pipe[pipe]  # type: ignore[index]
            try:
                yield i, self.workers[i].heard.recv()
            except (EOFError, OSError):
                self.workers[i].process.join()
                yield i, ('ended', '', None)

    def _replace(self, i: int, book: ledger.Ledger) -> None:
        """Start a worker in the place of one that ended because it was killed."""
        worker = self.workers.pop(i)
        status = worker.process.exitcode
        if status in (0, 128 + signal.SIGTERM):  # nothing is left to do, or someone asked it to end
            return
        how = None  # of a plain kill: that is someone's wish, and says nothing of the cell
        if status == -signal.SIGKILL and _out_of_memory_kills() > worker.kills:
            how = ledger.OUT_OF_MEMORY
        elif status < 0 and status != -signal.SIGKILL:
            how = signal.Signals(-status).name
        if how and worker.at:
            book.died(worker.at, how)
        else:
            self._in_vain += 1
        if status > 0 or self._in_vain > _TRIES:
            text = f'a worker process ended with status {status}{" (out of memory?)" * (status == -signal.SIGKILL)}'
            raise errors.WorkerError(f'{text}: run the same command again, perhaps with fewer --workers')
        self._start(i)

    def end(self) -> None:
        """Let workers save what they are at, and end them, in `_LEAVE` seconds; nothing interrupts it."""
        with _unheard(signal.SIGINT), _unheard(signal.SIGTERM):
            for worker in self.workers.values():
                worker.process.terminate()
            until = time.monotonic() + _LEAVE
            for worker in self.workers.values():
                worker.process.join(max(0.0, until - time.monotonic()))
                worker.process.kill()
                worker.process.join()


def _work(module: str, *args: Any) -> None:
    # Ctrl-C reaches the whole process group: the parent hears it and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.unraisablehook = end_again
    importlib.import_module(module).work(*args)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending


def end_again(lost: Any) -> None:
    """For `sys.unraisablehook`: if SIGTERM came while a finalizer ran, which loses exceptions, send it again."""
    if issubclass(lost.exc_type, SystemExit):
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(lost)


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path('/proc/vmstat').read_text().splitlines():
            if line.startswith('oom_kill '):
                return int(line.split()[1])
    return 0


@contextlib.contextmanager
def _unheard(number: int) -> Iterator[None]:
    """Ignore a signal, as processes that are started meanwhile will too."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextlib.contextmanager
def _passing_on(number: int, crew: Crew) -> Iterator[None]:
    """Workers hear this signal too."""

    def tell(*args: object) -> None:
        for worker in list(crew.workers.values()):
            if worker.process.is_alive():
                os.kill(worker.process.pid, number)

    before = signal.signal(number, tell)
    try:
        yield
    finally:
        signal.signal(number, before)
