"""A sweep: its cells, and the worker processes that share them through the ledger (imports no jax; each worker does).

There is no scheduler. Every worker walks over the cells, claims what is neither done nor claimed, and leaves when all are done; so the
same command started again, or twice at once, repeats nothing and shares the work.
"""

import contextlib
import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cnn_research import config, cost, crew, errors, layout, ledger

SAVE_EVERY = 60.0  # seconds between savings of a training's progress, unless asked otherwise
PURPOSES = ('main', 'tune', 'own_rate')


class Source(NamedTuple):
    """Where data sets come from: arguments of `data.load`."""

    data_dir: str | None
    raw_dir: str | None


class How(NamedTuple):
    """How cells are run, which changes no result but for rounding.

    Processes, whether failed cells are tried again, seconds between savings of progress, and how many devices a worker's trainings
    use (None: on a CPU one; elsewhere all, for seeds first); in_step: whether this is one of several processes of `hosts.py`, which train
    themselves instead of starting workers; profile: whether a few steps of each arm's first training are traced; together: at most so
    many seeds of an arm train in one program, so that there is something for everyone who shares the cells (None: as many as fit).
    """

    workers: int
    retry: bool = False
    save_every: float = SAVE_EVERY
    parallel: layout.Wish | None = None
    in_step: bool = False
    profile: bool = False
    together: int | None = None


@dataclasses.dataclass(frozen=True)
class Cell:
    """One training of so many multiply-adds per image, which takes `need` bytes at least.

    `purpose` is main, tune (scored on validation data alone) or own_rate (the arm's best rate of the grid).
    """

    arm: str
    seed: int
    config: config.Config
    macs: int
    purpose: str = 'main'
    need: int = 0

    @property
    def name(self) -> str:
        """What the cell is called in every file: safe as a file name, unique in its study."""
        t = self.config.train
        rate = '' if self.purpose == 'main' else f'-{self.purpose}-{t.learning_rate:g}' + f'-decay{t.weight_decay:g}' * (t.weight_decay > 0)
        return f'{self.arm}-seed{self.seed}{rate}'

    @property
    def effort(self) -> int:
        """Multiply-adds of all passes, as a measure of how long it takes beside others; each cell costs something at least."""
        images = self.config.train.epochs * self.config.train.passes * (self.config.data.train_size or 1)
        return (self.macs + 100_000) * images


def missing(book: ledger.Ledger, cells: Iterable[Any], memory: int | None = None, retry: bool = False) -> list[Any]:
    """The cells that still have to run: without a row or its parameters, refused by a machine with less `memory` than there is now, or
    failed, if they are to `retry`.

    Raises:
      InputError: a finished cell was another configuration under the same name.
    """
    done = book.results()
    again = {'failed'} if retry else set()
    result = []
    for cell in cells:
        row = done.get(cell.name)
        if row is not None and row['config'] != cell.config.to_json():
            raise errors.InputError(f'{book.folder} holds {cell.name} with another definition of {cell.arm}: give another --workdir')
        fits = cell.need <= (cost.memory() if memory is None else memory)
        if row is None or row['status'] in again or (row['status'] == 'refused' and fits) or not book.holds_parameters(row):
            result.append(cell)
    return result


def run(
    book: ledger.Ledger,
    experiment: str,
    cells: Sequence[Any],
    source: Source,
    how: How,
    module: str = 'cnn_research.worker',
) -> None:
    """Run what is missing in worker processes, with a progress bar on standard error. Each may use its share of the memory.

    module: whose `work` a process calls, as that of `cnn_research.worker`. Cells of another are like a `Cell`: they have an arm, a name, an
    effort, a need, and a config that can be written as JSON.

    Raises:
      InputError: a worker met bad input (a full disk, say). WorkerError: workers died. KeyboardInterrupt: after the workers have ended.
      ValueError: outside the main thread, which alone hears signals.
    """
    if how.in_step:
        from cnn_research import in_step  # jax

        in_step.run(book, experiment, cells, source, how)
        return
    book.ask([{'cell': cell.name, 'arm': cell.arm, 'effort': cell.effort} for cell in cells])
    workers = min(how.workers, len(missing(book, cells, None, how.retry)))
    memory = cost.memory() // workers if workers > 1 else None
    todo, before = missing(book, cells, memory, how.retry), book.results()
    if not todo:
        book.tidy()
        return
    own = shares(todo, workers)
    with one_thread_each() if on_cpu() and how.parallel is None else contextlib.nullcontext():
        team = crew.Crew(module, [(str(book.folder), experiment, mine, source, before, memory, how) for mine in own])
        try:
            team.watch(book, {cell.name: cell.effort for cell in todo})
        finally:
            team.end()
    book.tidy()
    after = book.results()
    if any(cell.name not in after or after[cell.name] == before.get(cell.name) for cell in todo):
        raise errors.WorkerError('worker processes were ended before all was done: run the same command again')


def shares(cells: Iterable[Any], workers: int) -> list[list[Any]]:
    """All cells for every worker, each in an order of its own.

    Every arm costs a worker the time to trace and load its programs, so each starts with arms of its own, of about as much effort as
    those of the others, and then helps the others from the end of theirs.
    """
    arms: dict[str, list[Any]] = {}
    for cell in sorted(cells, key=lambda cell: -cell.effort):
        arms.setdefault(cell.arm, []).append(cell)
    dealt: list[list[Any]] = [[] for _ in range(workers)]
    for arm in sorted(arms.values(), key=lambda arm: -sum(cell.effort for cell in arm)):
        min(dealt, key=lambda own: sum(cell.effort for cell in own)).extend(arm)
    return [[*own, *(cell for others in dealt[i + 1 :] + dealt[:i] for cell in reversed(others))] for i, own in enumerate(dealt)]


def default_workers() -> int:
    """One process per core on a CPU, one in all where there is an accelerator."""
    if not on_cpu():
        return 1
    return cost.cores()


def devices() -> int:
    """How many devices jax has here, found out without taking them: an accelerator serves one process at a time.

    Raises:
      InputError: jax cannot be started.
    """
    jax = sys.modules.get('jax')
    if jax is not None and jax.distributed.is_initialized():
        return jax.device_count()
    return int(_asked('jax.device_count()'))


def _asked(what: str) -> str:
    """What jax says in a process of its own."""
    found = subprocess.run([sys.executable, '-c', f'import jax; print({what})'], capture_output=True, text=True)
    if found.returncode or not found.stdout.strip():
        why = (found.stderr.strip().splitlines() or ['it said nothing'])[-1]
        raise errors.InputError(f'jax does not start here, so that its devices are not known: {why}')
    return found.stdout.strip().splitlines()[-1]


def on_cpu() -> bool:
    """Whether jax will compute on the CPU, found out without importing it here where it has no accelerator plugin.

    Raises:
      InputError: jax cannot be started.
    """
    asked = os.environ.get('JAX_PLATFORMS', '')
    if asked:
        return asked.split(',')[0] == 'cpu'
    plugins = ('jax_plugins', 'libtpu', 'jax_cuda12_plugin', 'jax_cuda13_plugin')
    if not any(importlib.util.find_spec(name) for name in plugins):
        return True
    return _asked('jax.default_backend()') == 'cpu'


@contextlib.contextmanager
def one_thread_each():
    """The environment of a worker on a CPU: one thread, so that its bits depend neither on the cores nor on the neighbours."""
    names = {'NPROC': '1', 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
