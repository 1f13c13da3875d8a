"""Cells that are no training of a network: any job that gives a row, claimed, run and recorded as the cells of a sweep are."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol


class Job(Protocol):
    """What is to be done: a frozen dataclass that is written as JSON, and compared with what a study's folder holds."""

    @property
    def name(self) -> str:
        """Safe as a file name, unique in its study."""
        ...

    @property
    def effort(self) -> int:
        """How long it takes beside others, roughly."""
        ...

    def to_json(self) -> dict[str, Any]:
        """All that fixes the result."""
        ...

    def run(self, source: Any, on_progress: Callable[[float], None]) -> dict[str, Any]:
        """The row, without what every row has. source: of data sets, a `sweep.Source`; on_progress hears the share done."""
        ...


@dataclasses.dataclass(frozen=True)
class Cell:
    """A job as a sweep's cell."""

    config: Job
    purpose: str = 'main'
    need: int = 0

    @property
    def name(self) -> str:
        """That of the job."""
        return self.config.name

    @property
    def arm(self) -> str:
        """Each is its own: no two share a program."""
        return self.name

    @property
    def effort(self) -> int:
        """That of the job."""
        return self.config.effort


def work(
    news: Any, folder: str, experiment: str, cells: list[Cell], source: Any, before: dict[str, Any], memory: int | None, how: Any
) -> None:
    """What a worker process of a sweep does with such cells. They are short: nothing is saved of one that has not ended."""
    from cnn_research import keeping, ledger, worker

    def run(team: list[Cell], heard: Callable[[float], None], doom: str | None) -> Iterator[tuple[dict[str, Any], list, dict]]:
        yield done(experiment, team[0], source, heard, doom), [], {}

    asked = keeping.Asked()
    asked.listen()
    worker.share(ledger.Ledger(folder), [[cell] for cell in cells], run, news, before, asked)


def done(experiment: str, cell: Cell, source: Any, on_progress: Callable[[float], None], doom: str | None = None) -> dict[str, Any]:
    """The row of a job, or that of the error which ended it. doom: why it must fail at once, if it must."""
    import jax

    from cnn_research import errors, trainings

    started = time.perf_counter()
    row = {'experiment': experiment, 'cell': cell.name, 'seed': 0, 'purpose': cell.purpose, 'config': cell.config.to_json()}
    try:
        if doom:
            raise errors.WorkerError(doom)
        row |= {'status': 'ok', **cell.config.run(source, on_progress)}
    except Exception as e:  # anything a training can raise, out of memory included: the other jobs go on
        row |= trainings.failure(e, cell.need)
    return row | {'jax': jax.__version__, 'device': jax.devices()[0].device_kind, 'seconds': time.perf_counter() - started}
