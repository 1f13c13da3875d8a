"""Trainings of cells, one by one or several seeds at once, and what becomes of each: a row of results, a history, parameters."""

import contextlib
import functools
import math
import re
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from cnn_research import cost, engine, errors, feeds, hosts, keeping, mesh, probe, problem, projection, sweep, train
from cnn_research.data import Dataset
from cnn_research.layout import Wish

Result = tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]  # a row, its history, parameters by path


class Means(NamedTuple):
    """What trainings run with.

    memory: the bytes there are (None: all of this machine's). keep: gives what keeps the progress of cells that train together. parallel:
    see `sweep.How`. profiles: the folder of traces (None: there are to be none).
    """

    memory: int | None = None
    keep: Callable[[Sequence[sweep.Cell]], Any] | None = None
    parallel: Wish | None = None
    profiles: Path | None = None


_PLAIN = Means()


def teams(cells: Sequence[sweep.Cell], platform: str, how: sweep.How) -> list[list[sweep.Cell]]:
    """The cells that run as one program: on an accelerator, or several devices, those that differ in their seed alone, unless patience
    ends each at its own time, or `how.together` allows fewer; on a CPU each by itself.

    (Under `vmap` convolutions become grouped ones, which a CPU computes several times slower; there a process per core has its own seed.)
    """
    if platform == 'cpu' and how.parallel is None:
        return [[cell] for cell in cells]
    found: dict[Any, list[sweep.Cell]] = {}
    for cell in cells:
        # Whatever is done already, a seed is in the same team, whose progress may have been saved.
        most = 1 if cell.config.train.patience is not None else how.together
        found.setdefault((cell.arm, cell.purpose, cell.config, cell.seed // most if most else None), []).append(cell)
    return list(found.values())


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
    means: Means = _PLAIN,
    most: int | None = None,
    doom: str | None = None,
) -> Iterator[Result]:
    """`run_cell` for cells that differ in their seed alone, in one program, or in parts of at most `most` (None: what memory holds).

    A part's results come as soon as it ends. If a part of several cells raises, its halves are tried by themselves. `seconds` is a cell's
    share of the time. doom: why the cells must fail at once, if they must.
    """
    started, cell = time.perf_counter(), team[0]
    try:
        posed = problem.make(cell.config, dataset, means.memory)
    except errors.TooLargeError as e:
        yield from ((_refused(experiment, one, dataset, e), [], {}) for one in team)
        return
    rows = [_facts(experiment, one, posed) for one in team]
    if doom:
        yield from ((row | {'error': doom + _taking(one.need), 'seconds': 0.0}, [], {}) for row, one in zip(rows, team))
        return
    size = len(team)  # of the parts
    try:
        data = [problem.arrays(posed, dataset, cell.seed)]
        size = _part(posed, data[0], len(team), means, most)
        if size == len(team):
            data += [problem.arrays(posed, dataset, one.seed) for one in team[1:]]
            on = _mesh(posed, len(team), means)
            fits = _fits(posed, data, team, on_progress, means, on)
            results = [_result(*all_of_it, on, dataset.test_names) for all_of_it in zip(rows, team, fits, data)]
    except errors.InputError:  # a full disk, say
        raise
    except Exception as e:  # anything a training can raise, out of memory included: the other cells go on
        if jax.process_count() > 1:  # unless others may be waiting for this process
            raise
        size = (len(team) + 1) // 2
        results = [(rows[0] | failure(e, team[0].need), [], {})]
    if size < len(team):
        yield from _in_parts(experiment, team, dataset, on_progress, means, size)
        return
    seconds = (time.perf_counter() - started) / len(team)
    for row, history, params in results:
        yield row | {'seconds': seconds}, history, params


def _fits(
    posed: problem.Problem,
    data: Sequence[problem.Arrays],
    team: Sequence[sweep.Cell],
    on_progress: Callable[[float], None],
    means: Means,
    on: Mesh | None,
) -> list[train.Fit]:
    """The finished trainings of a team in one program."""
    watch = watched if team[0].config.train.watch and team[0].purpose != 'tune' else _unwatched
    keeper = means.keep(team) if means.keep else None
    first = team[0].purpose == 'main' and any(one.seed == 0 for one in team)
    profile = str(means.profiles / team[0].arm) if means.profiles and first and hosts.first() else None
    with keeper or contextlib.nullcontext():
        return train.fit_together(posed, data, [one.seed for one in team], on_progress, watch, keeper, on, profile)


def _part(posed: problem.Problem, data: problem.Arrays, seeds: int, means: Means, most: int | None) -> int:
    """How many of so many seeds train in one program: what memory holds in every place for one; on devices of a CPU one in each."""
    devices, wish = _devices(means.parallel)
    if feeds.streams(data):
        return 1
    if seeds == 1:
        each = 1
    elif most is not None:  # a part of a team that was found to fit, or to be tried
        each = math.ceil(most / wish.on(devices, most, posed.batch_size).seed)
    else:
        # What a part of a split training takes is not known, so there is one in each place then as well.
        one_each = wish.model > 1 or (jax.default_backend() == 'cpu' and devices > 1)
        each = 1 if one_each else train.at_once(posed, data)
    return wish.part(devices, min(seeds, most or seeds), each, posed.batch_size)


def failure(error: Exception, need: int) -> dict[str, Any]:
    """What the row of a cell that raised says, with the memory that it needs at least, if that is what it lacked; a traceback is logged."""
    traceback.print_exception(error)
    text = f'{type(error).__name__}: {error}'.splitlines()[0].rstrip(': ')
    if lacks_memory(error):
        text += _taking(need)
    return {'status': 'failed', 'error': text, 'traceback': ''.join(traceback.format_exception(error))}


def lacks_memory(error: Exception) -> bool:
    """Whether a device or the machine ran out of memory."""
    return isinstance(error, MemoryError) or re.search('out of memory|RESOURCE_EXHAUSTED', str(error), re.IGNORECASE) is not None


def _taking(need: int) -> str:
    return f' (it takes {cost.human_bytes(need)} at least)' if need else ''


def _devices(parallel: Wish | None) -> tuple[int, Wish]:
    """How many devices there are for trainings, and how they are wished to be used."""
    if parallel is None and jax.default_backend() == 'cpu':
        return 1, Wish()
    return jax.device_count(), parallel or Wish()


def _mesh(posed: problem.Problem, seeds: int, means: Means) -> Mesh | None:
    """The devices for so many seeds; None: the first alone."""
    devices, wish = _devices(means.parallel)
    return mesh.make(wish.on(devices, seeds, posed.batch_size)) if devices > 1 else None


def _in_parts(
    experiment: str,
    team: Sequence[sweep.Cell],
    dataset: Dataset,
    on_progress: Callable[[float], None],
    means: Means,
    size: int,
) -> Iterator[Result]:
    """The team in parts of so many cells, one after the other."""

    def of_part(share: float, first: int, number: int) -> None:
        on_progress((first + number * share) / len(team))

    for first in range(0, len(team), size):
        part = team[first : first + size]
        yield from run_team(experiment, part, dataset, functools.partial(of_part, first=first, number=len(part)), means, size)


def _result(
    row: dict[str, Any], cell: sweep.Cell, fit: train.Fit, data: problem.Arrays, on: Mesh | None, test_names: tuple[str, str] | None
) -> Result:
    fit = fit._replace(state=mesh.place(on, fit.state.replace(opt_state=())))
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
    variables = mesh.fetch({'params': state.params})
    return {'test_accuracy': accuracy, 'distance': projection.distance(posed.config.model, variables, posed.image)}


def _unwatched(posed: problem.Problem, state: engine.State, data: problem.Arrays) -> dict[str, float]:
    return {}


def flatten(state: engine.State) -> dict[str, np.ndarray]:
    """Parameters and batch statistics by path, as 'params/stage_0/kernel'."""
    tree = {'params': state.params, 'batch_stats': state.batch_stats}
    return traverse_util.flatten_dict(mesh.fetch(tree), sep='/')


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
