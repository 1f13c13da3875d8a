"""A sweep by several processes in step (`hosts.py`): all of them train each team together, the first one's files hold everything."""

import contextlib
import dataclasses
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from cnn_research import crew, errors, hosts, keeping, ledger, mesh, sweep, train, trainings, worker
from cnn_research.problem import Problem


def run(book: Any, experiment: str, cells: Sequence[sweep.Cell], source: sweep.Source, how: sweep.How) -> None:
    """`sweep.run` of a `Book` in these processes instead of others. Raises InputError, or SystemExit if any of them was asked to end."""
    book.ask([{'cell': cell.name, 'arm': cell.arm, 'effort': cell.effort} for cell in cells])
    names = set(hosts.by_first(lambda: [cell.name for cell in sweep.missing(book.own, cells, retry=how.retry)]))
    todo, before = [cell for cell in cells if cell.name in names], book.results()
    with crew.Bar({cell.name: cell.effort for cell in todo}, hidden=not hosts.first()) as bar:
        try:
            worker.serve(_News(bar), book, experiment, todo, source, before, None, how, book.asked, Keeper)
        except hosts.AgreedError:
            raise
        except Exception as e:
            _end_alone(book, experiment, e)
    hosts.by_first(book.own.tidy)


def _end_alone(book: Any, experiment: str, error: Exception) -> None:
    """End after an error that perhaps no other process met: they wait for this one until they hear that it is gone.

    The first process notes at which cells it was: it is `failed` for want of memory, or when that happened twice, and the others go on.
    """
    if isinstance(error, errors.InputError):
        print(f'{experiment}: {error}', file=sys.stderr)
        os._exit(2)
    traceback.print_exception(error)
    if hosts.first():
        how = ledger.OUT_OF_MEMORY if trainings.lacks_memory(error) else type(error).__name__
        book.own.died([at['cell'] for at in json.loads(book.claims.says or '[]')], how)
    sys.stderr.flush()
    os._exit(1)


class Asked(keeping.Asked):
    """What signals have asked of any of the processes. Ctrl-C asks what SIGTERM does, for the others cannot go on alone."""

    def listen(self) -> None:
        super().listen()
        signal.signal(signal.SIGINT, self._end)

    def _end(self, number: int, frame: object) -> None:
        self.to_end = True

    def end(self) -> None:
        self.to_end = hosts.anywhere(self.to_end)[0]
        super().end()


class Book:
    """A `ledger.Ledger` of which the first process does the reading and writing, and tells the others what it found.

    asked: what signals ask of the processes, from now on.
    """

    def __init__(self, own: ledger.Ledger):
        self.own, self.claims, self.folder, self.asked = own, own.claims, own.folder, Asked()
        self.asked.listen()
        _end_at_second_signal()

    def create(self, study: Mapping[str, Any]) -> None:
        """See `Ledger.create`; so are all."""
        hosts.by_first(self.own.create, study)

    def ask(self, cells: Sequence[Mapping[str, Any]]) -> None:
        hosts.by_first(self.own.ask, cells)

    def results(self) -> dict[str, dict[str, Any]]:
        return hosts.by_first(self.own.results)

    def doomed(self, cell: str) -> str | None:
        return hosts.by_first(self.own.doomed, cell)

    def record(self, *result: Any) -> bool:
        return hosts.by_first(self.own.record, *result)

    @contextlib.contextmanager
    def claim(self, cell: str) -> Iterator[bool]:
        with contextlib.ExitStack() as held:
            yield hosts.by_first(lambda: held.enter_context(self.own.claim(cell)))


def _end_at_second_signal() -> None:
    """Let a second SIGTERM or SIGINT, a second or more after the first, end this process whatever it does.

    (While it waits for others, who may be gone, no Python runs in its main thread, and so no handler.)
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)

    def listen() -> None:
        first = None
        while True:
            (number,) = os.read(heard, 1)
            if number in (signal.SIGTERM, signal.SIGINT):
                first = first or time.monotonic()
                if time.monotonic() - first > 1:
                    os._exit(128 + number)

    threading.Thread(target=listen, daemon=True).start()


class _News:
    """What `crew.News` would carry to the command: here it is the same process."""

    def __init__(self, bar: crew.Bar):
        self._bar = bar

    def put(self, what: tuple[str, str, Any]) -> None:
        if what[0] == 'error':
            raise  # the error that is told of, which is being handled
        self._bar.hear(*what)


class Keeper:
    """A `train.Keeper` of several processes: the first one's files keep the progress of all."""

    def __init__(self, files: keeping.FileKeeper):
        self._files = files

    def __enter__(self) -> 'Keeper':
        self._files.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._files.__exit__(*error)

    def resumed(self, problem: Problem, seeds: Sequence[int]) -> train.Progress | None:
        """See `FileKeeper.resumed`."""
        kept: list[train.Progress] = []

        def found() -> dict[str, Any] | None:
            kept.extend(filter(None, [self._files.resumed(problem, seeds)]))
            return keeping.facts(kept[0]) if kept else None

        told = hosts.by_first(found)
        if told is None:
            return None
        template = keeping.like(problem, seeds, told)
        mine = keeping.tree(kept[0]) if kept else jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), keeping.tree(template))
        return keeping.filled(template, told, hosts.of_first(mine))

    def passed(self, progress: train.Progress) -> None:
        """See `FileKeeper.passed`: any process may be asked, the first one's clock decides when it is time."""
        to_save, to_end = hosts.anywhere(self._files.asked.to_save or (hosts.first() and self._files.due()), self._files.asked.to_end)
        if to_save or to_end:
            whole = dataclasses.replace(progress, state=mesh.fetch(progress.state), best=mesh.fetch(progress.best))
            hosts.by_first(self._files.save, whole)
            self._files.asked.to_save = False
        if to_end:
            hosts.by_first(self._files.finish)
            raise SystemExit(128 + signal.SIGTERM)
