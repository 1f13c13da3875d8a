"""What a worker process does: claim a cell, train it, score it, record it, until all cells are done."""

import contextlib
import functools
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import parent_process
from typing import Any

import jax

from cnn_research import compiled, errors, keeping, ledger, sweep
from cnn_research.data import load
from cnn_research.trainings import Means, Result, run_team, teams

_WAIT = 0.5  # seconds between looks at cells that another process holds


def work(news: Any, folder: str, *args: Any) -> None:
    """What a worker process does with the folder of a ledger, and the other arguments of `serve`."""
    serve(news, ledger.Ledger(folder), *args)


def serve(
    news: Any,
    book: ledger.Ledger,
    experiment: str,
    cells: list[sweep.Cell],
    source: sweep.Source,
    before: dict[str, Any],
    memory: int | None,
    how: sweep.How,
    asked: keeping.Asked | None = None,
    kept_by: Callable[[keeping.FileKeeper], Any] = lambda files: files,
) -> None:
    """Run cells until none is missing, see `share`.

    memory: the bytes there are for this worker (None: all of the machine's). asked: what signals ask of it. kept_by: makes what keeps the
    progress of trainings out of what keeps that of this process alone.
    """
    asked = asked or keeping.Asked()
    asked.listen()
    opened = functools.lru_cache(4)(functools.partial(load, data_dir=source.data_dir, raw_dir=source.raw_dir))

    def keep(team: Sequence[sweep.Cell]) -> Any:
        names, definition = [cell.name for cell in team], team[0].config.to_json()
        return kept_by(keeping.FileKeeper(book.folder / 'states', names, definition, how.save_every, asked, note))

    def note(text: str) -> None:
        news.put(('note', '', text))

    means = Means(memory, keep, how.parallel, book.folder / 'profiles' if how.profile else None)

    def run(team: list[sweep.Cell], on_progress: Callable[[float], None], doom: str | None) -> Iterator[Result]:
        return run_team(experiment, team, opened(team[0].config.data.dataset), on_progress, means, None, doom)

    share(book, teams(cells, jax.default_backend(), how), run, news, before, asked)


def share(
    book: ledger.Ledger,
    left: list[list[Any]],
    run: Callable[..., Iterator[Result]],
    news: Any,
    before: dict[str, Any],
    asked: keeping.Asked,
) -> None:
    """Claim, run and record teams of cells until none is missing; other processes may do the same.

    run: (cells of a team, what hears the share done, why they must fail or None) to their results. news: a `crew.News`. before: the rows
    that were there when the sweep started; a cell with another row was run since, be it that it failed again.
    """
    _end_with_parent()
    compiled.keep()
    try:
        while left:
            count = sum(map(len, left))
            left = [team for team in (_claim_and_run(book, run, team, before, news, asked) for team in left) if team]
            if left and count == sum(map(len, left)):
                time.sleep(_WAIT)
    except errors.InputError as e:
        news.put(('error', '', e.args))
    finally:
        book.claims.close()


def _claim_and_run(
    book: ledger.Ledger, run: Callable[..., Iterator[Result]], team: list[Any], before: dict[str, Any], news: Any, asked: keeping.Asked
) -> list[Any]:
    """The cells of the team that are still not done, for another process holds them. Raises SystemExit if this one was asked to end."""
    with contextlib.ExitStack() as claims:
        mine = [cell for cell in team if claims.enter_context(book.claim(cell.name))]
        rows = book.results()
        todo = [cell for cell in mine if rows.get(cell.name) == before.get(cell.name)]

        def on_progress(share: float) -> None:
            book.claims.says = json.dumps([{'cell': cell.name, 'share': share} for cell in todo])
            for cell in todo:
                news.put(('progress', cell.name, share))

        if todo:
            on_progress(0.0)
            doomed = {cell.name: doom for cell in todo if (doom := book.doomed(cell.name))}
            results = [run([cell], on_progress, doomed[cell.name]) for cell in todo if cell.name in doomed]
            results += [run(sound, on_progress, None)] if (sound := [cell for cell in todo if cell.name not in doomed]) else []
            for row, history, params in itertools.chain.from_iterable(results):
                if not book.record(row, history, params):
                    news.put(('note', '', f'{row["cell"]} was taken over by another process while this one stood still'))
            book.claims.says = ''
    asked.end()
    for cell in mine:
        news.put(('done', cell.name, 1.0))
    return [cell for cell in team if cell not in mine]


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on in secret."""
    parent = parent_process()
    if parent is None:
        return

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
