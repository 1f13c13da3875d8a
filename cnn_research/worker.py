"""What a worker process does: claim a cell, train it, score it, record it, until all cells are done."""

import contextlib
import functools
import itertools
import json
import math
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cnn_research import compiled, cost, engine, errors, keeping, ledger, probe, problem, projection, sweep, train
from cnn_research.data import Dataset, load

Result = tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]  # a row, its history, parameters by path
Keep = Callable[[Sequence[sweep.Cell]], keeping.FileKeeper]  # what keeps the progress of cells that are trained together
_WAIT = 0.5  # seconds between looks at cells that another process holds


def work(
    news: Any,
    folder: str,
    experiment: str,
    cells: list[sweep.Cell],
    source: sweep.Source,
    before: dict[str, Any],
    memory: int | None,
    save_every: float,
) -> None:
    """Run cells until none is missing, see `share`.

    memory: the bytes there are for this worker (None: all of the machine's). save_every: seconds between savings of progress.
    """
    asked = keeping.Asked()
    asked.listen()
    opened = functools.lru_cache(4)(functools.partial(load, data_dir=source.data_dir, raw_dir=source.raw_dir))

    def keep(team: Sequence[sweep.Cell]) -> keeping.FileKeeper:
        names, definition = [cell.name for cell in team], team[0].config.to_json()
        return keeping.FileKeeper(Path(folder) / 'states', names, definition, save_every, asked, lambda text: news.put(('note', '', text)))

    def run(team: list[sweep.Cell], on_progress: Callable[[float], None], doom: str | None) -> Iterator[Result]:
        return run_team(experiment, team, opened(team[0].config.data.dataset), on_progress, None, memory, keep, doom)

    share(folder, teams(cells, jax.default_backend()), run, news, before, asked)


def share(
    folder: str, left: list[list[Any]], run: Callable[..., Iterator[Result]], news: Any, before: dict[str, Any], asked: keeping.Asked
) -> None:
    """Claim, run and record teams of cells until none is missing; other processes may do the same.

    run: (cells of a team, what hears the share done, why they must fail or None) to their results. news: a `crew.News`. before: the rows
    that were there when the sweep started; a cell with another row was run since, be it that it failed again.
    """
    _end_with_parent()
    compiled.keep()
    book = ledger.Ledger(folder)
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


def teams(cells: Sequence[sweep.Cell], platform: str) -> list[list[sweep.Cell]]:
    """The cells that run as one program: on an accelerator those that differ in their seed alone, unless patience ends
    each at its own time; on a CPU each by itself.

    (Under `vmap` convolutions become grouped ones, which a CPU computes several times slower; there a process per core has its own seed.)
    """
    if platform == 'cpu':
        return [[cell] for cell in cells]
    found: dict[Any, list[sweep.Cell]] = {}
    for cell in cells:
        alone = cell.seed if cell.config.train.patience is not None else None
        found.setdefault((cell.arm, cell.purpose, cell.config, alone), []).append(cell)
    return list(found.values())


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


def run_cell(experiment: str, cell: sweep.Cell, dataset: Dataset, on_progress: Callable[[float], None] = lambda share: None) -> Result:
    """Train and score one cell: (row of results, rows of history, parameters by path).

    A run whose loss is not finite is `diverged`; one that the machine cannot hold is `refused`; one that raises is `failed` with its last
    line; none stops the sweep.
    """
    (result,) = run_team(experiment, [cell], dataset, on_progress)
    return result


def run_team(
    experiment: str,
    team: Sequence[sweep.Cell],
    dataset: Dataset,
    on_progress: Callable[[float], None] = lambda share: None,
    most: int | None = None,
    memory: int | None = None,
    keep: Keep | None = None,
    doom: str | None = None,
) -> Iterator[Result]:
    """`run_cell` for cells that differ in their seed alone, in one program, or in parts of at most `most` (None: what memory holds).

    A part's results come as soon as it ends. If a part of several cells raises, its halves are tried by themselves. `seconds` is a cell's
    share of the time. keep: gives what keeps the progress of cells. doom: why the cells must fail at once, if they must.
    """
    started, cell = time.perf_counter(), team[0]
    try:
        posed = problem.make(cell.config, dataset, memory)
    except errors.TooLargeError as e:
        yield from ((_refused(experiment, one, dataset, e), [], {}) for one in team)
        return
    rows = [_facts(experiment, one, posed) for one in team]
    if doom:
        yield from ((row | {'error': doom + _taking(one.need), 'seconds': 0.0}, [], {}) for row, one in zip(rows, team))
        return
    size = 0  # of the parts; 0: the team is one
    keeper = keep(team) if keep else None
    try:
        data = [problem.arrays(posed, dataset, one.seed) for one in team]
        fit_at_once = (most or train.at_once(posed, data[0])) if len(team) > 1 else 1
        if len(team) > fit_at_once:
            size = fit_at_once
        else:
            watch = watched if cell.config.train.watch and cell.purpose != 'tune' else _unwatched
            with keeper or contextlib.nullcontext():
                fits = train.fit_together(posed, data, [one.seed for one in team], on_progress, watch, keeper)
            results = [_result(*all_of_it, dataset.test_names) for all_of_it in zip(rows, team, fits, data)]
    except errors.InputError:  # a full disk, say
        raise
    except Exception as e:  # anything a training can raise, out of memory included: the other cells go on
        size = (len(team) + 1) // 2 if len(team) > 1 else 0
        results = [(rows[0] | failure(e, team[0].need), [], {})]
    if size:
        yield from _in_parts(experiment, team, dataset, on_progress, size, keep)
        return
    seconds = (time.perf_counter() - started) / len(team)
    for row, history, params in results:
        yield row | {'seconds': seconds}, history, params


def failure(error: Exception, need: int) -> dict[str, Any]:
    """What the row of a cell that raised says, with the memory that it needs at least, if that is what it lacked; a traceback is logged."""
    traceback.print_exception(error)
    text = f'{type(error).__name__}: {error}'.splitlines()[0].rstrip(': ')
    if isinstance(error, MemoryError) or re.search('out of memory|RESOURCE_EXHAUSTED', str(error), re.IGNORECASE):
        text += _taking(need)
    return {'status': 'failed', 'error': text, 'traceback': ''.join(traceback.format_exception(error))}


def _taking(need: int) -> str:
    return f' (it takes {cost.human_bytes(need)} at least)' if need else ''


def _in_parts(
    experiment: str, team: Sequence[sweep.Cell], dataset: Dataset, on_progress: Callable[[float], None], size: int, keep: Keep | None
) -> Iterator[Result]:
    """The team in parts of so many cells, one after the other."""

    def of_part(share: float, first: int, number: int) -> None:
        on_progress((first + number * share) / len(team))

    for first in range(0, len(team), size):
        part = team[first : first + size]
        yield from run_team(experiment, part, dataset, functools.partial(of_part, first=first, number=len(part)), size, keep=keep)


def _result(
    row: dict[str, Any], cell: sweep.Cell, fit: train.Fit, data: problem.Arrays, test_names: tuple[str, str] | None = None
) -> Result:
    history = [{'cell': cell.name, **_who(cell), **{k: _finite(v) for k, v in entry.items()}} for entry in fit.history]
    row = row | _scores(fit, data, cell.purpose) | {'status': 'diverged' if fit.diverged else 'ok', 'epochs': len(fit.history)}
    if fit.diverged:
        row |= train.divergence(fit.state)
    for name, split in zip(test_names or (), ('test', 'unseen')):
        row[f'{name}_accuracy'] = row[f'{split}_accuracy']
    if cell.config.data.probe and cell.purpose != 'tune' and not fit.diverged:
        row |= probe.probe(fit.problem, fit.state, data)
    return row, history, {} if fit.diverged else flatten(fit.state) | {'scale': np.asarray(data.scale)}


def watched(posed: problem.Problem, state: engine.State, data: problem.Arrays) -> dict[str, float]:
    """What is recorded after every epoch of a watched training: test accuracy, and the distance from the nearest convolution."""
    assert data.test is not None
    accuracy = train.score(posed, state, data.scale, data.test)['accuracy']
    return {'test_accuracy': accuracy, 'distance': projection.distance(posed.config.model, {'params': state.params}, posed.image)}


def _unwatched(posed: problem.Problem, state: engine.State, data: problem.Arrays) -> dict[str, float]:
    return {}


def flatten(state: engine.State) -> dict[str, np.ndarray]:
    """Parameters and batch statistics by path, as 'params/stage_0/kernel'."""
    tree = {'params': state.params, 'batch_stats': state.batch_stats}
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()}


def _who(cell: sweep.Cell) -> dict[str, Any]:
    return {'arm': cell.arm, 'seed': cell.seed, 'purpose': cell.purpose, 'learning_rate': cell.config.train.learning_rate}


def _refused(experiment: str, cell: sweep.Cell, dataset: Dataset, error: errors.TooLargeError) -> dict[str, Any]:
    """The row of a cell that the memory of this machine does not hold."""
    shape, available = problem.image_shape(cell.config.data, dataset), len(dataset.train_images)
    posed = problem.Problem(cell.config, shape, len(dataset.class_names), cell.config.data.train_size or available, available)
    return _facts(experiment, cell, posed) | {'status': 'refused', 'error': '; '.join(error.args), 'seconds': 0.0}


def _facts(experiment: str, cell: sweep.Cell, posed: problem.Problem) -> dict[str, Any]:
    counts = cost.total(cell.config.final_model, posed.image, posed.num_classes)
    row = {'experiment': experiment, 'cell': cell.name, **_who(cell), 'status': 'failed', 'config': cell.config.to_json()}
    row |= {'dataset': cell.config.data.dataset, 'train_size': posed.train_size, **counts._asdict()}
    names = ('train', 'validation', 'test', 'unseen')
    row |= {f'{name}_{what}': None for name in names for what in ('accuracy', 'loss')}
    row |= {'epochs': cell.config.train.epochs, 'git': keeping.commit(), 'jax': jax.__version__, 'device': jax.devices()[0].device_kind}
    return row


def _scores(fit: train.Fit, data: problem.Arrays, purpose: str) -> dict[str, Any]:
    """Final accuracies and losses; a tuning run sees no test image."""
    splits: dict[str, problem.Examples | None] = {'train': data.train, 'validation': data.validation}
    if purpose != 'tune':
        splits |= {'test': data.test, 'unseen': data.unseen}
    result: dict[str, Any] = {}
    for name, examples in splits.items():
        if examples is not None and not fit.diverged:
            means = train.score(fit.problem, fit.state, data.scale, examples)
            result |= {f'{name}_accuracy': means['accuracy'], f'{name}_loss': _finite(means['loss'])}
    return result


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on in secret."""
    parent = parent_process()
    if parent is None:
        return

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
