"""What a worker process does: claim a cell, train it, score it, record it, until all cells are done."""

import functools
import math
import os
import subprocess
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from cnn_research import compiled, cost, errors, ledger, problem, projection, sweep, train
from cnn_research.data import Dataset, load

_WAIT = 0.5  # seconds between looks at cells that another process holds


def work(folder: str, experiment: str, cells: list[sweep.Cell], source: sweep.Source, news: Any, before: dict[str, Any]) -> None:
    """Run cells until none is missing; tell `news` ('progress' | 'done', cell, share) and ('error', '', message).

    `before` holds the rows that were there when the sweep started: a cell with another row was run since, be it that it failed again.
    """
    _end_with_parent()
    compiled.keep()
    try:
        dataset = load(source.name, data_dir=source.data_dir, raw_dir=source.raw_dir)
        book = ledger.Ledger(folder)
        left = {cell.name: cell for cell in cells}
        while left:
            claimed = [name for name in list(left) if _claim_and_run(book, experiment, left[name], before.get(name), dataset, news)]
            for name in claimed:
                del left[name]
            if left and not claimed:
                time.sleep(_WAIT)
    except errors.InputError as e:
        news.put(('error', '', str(e)))
        news.close()
        news.join_thread()


def _claim_and_run(
    book: ledger.Ledger, experiment: str, cell: sweep.Cell, before: dict[str, Any] | None, dataset: Dataset, news: Any
) -> bool:
    """Whether the cell is done now, by this process or by another; `before` is its row, if any, when the sweep started (it failed)."""
    with book.claim(cell.name) as mine:
        if not mine:
            return False
        if book.results().get(cell.name) == before:
            row, history, params = run_cell(experiment, cell, dataset, lambda share: news.put(('progress', cell.name, share)))
            book.record(row, history, params)
    news.put(('done', cell.name, 1.0))
    return True


def run_cell(
    experiment: str, cell: sweep.Cell, dataset: Dataset, on_progress=lambda share: None
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, np.ndarray]]:
    """Train and score one cell: (row of results, rows of history, parameters by path).

    A run whose loss is not finite is `diverged`; one that raises is `failed` with its last line; neither stops the sweep.
    """
    started = time.perf_counter()
    posed = problem.make(cell.config, dataset)
    row = _facts(experiment, cell, posed)
    history: list[dict[str, Any]] = []
    params: dict[str, np.ndarray] = {}
    try:
        data = problem.arrays(posed, dataset, cell.seed)
        watch = watched(data) if cell.config.train.watch and cell.purpose != 'tune' else lambda problem, state: {}
        fit = train.fit(posed, data, cell.seed, on_progress, watch)
        history = [{'cell': cell.name, **_who(cell), **{k: _finite(v) for k, v in entry.items()}} for entry in fit.history]
        row |= _scores(fit, data, cell.purpose)
        row['status'] = 'diverged' if fit.diverged else 'ok'
        params = {} if fit.diverged else flatten(fit.state) | {'scale': np.asarray(data.scale)}
    except Exception as e:  # anything a training can raise, out of memory included: the other cells go on
        traceback.print_exc()
        row |= {'status': 'failed', 'error': f'{type(e).__name__}: {e}'.splitlines()[0]}
    return row | {'seconds': time.perf_counter() - started}, history, params


def watched(data: problem.Arrays) -> Callable[[problem.Problem, train.State], dict[str, float]]:
    """What `fit` records after every epoch of a watched training: test accuracy, and the distance from the nearest convolution."""

    def watch(posed: problem.Problem, state: train.State) -> dict[str, float]:
        assert data.test is not None
        accuracy = train.score(posed, state, data.scale, data.test)['accuracy']
        return {'test_accuracy': accuracy, 'distance': projection.distance(posed.config.model, {'params': state.params}, posed.image)}

    return watch


def flatten(state: train.State) -> dict[str, np.ndarray]:
    """Parameters and batch statistics by path, as 'params/stage_0/kernel'."""
    tree = {'params': state.params, 'batch_stats': state.batch_stats}
    return {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(tree, sep='/').items()}


def _who(cell: sweep.Cell) -> dict[str, Any]:
    return {'arm': cell.arm, 'seed': cell.seed, 'purpose': cell.purpose, 'learning_rate': cell.config.train.learning_rate}


def _facts(experiment: str, cell: sweep.Cell, posed: problem.Problem) -> dict[str, Any]:
    counts = cost.total(cell.config.final_model, posed.image, posed.num_classes)
    row = {'experiment': experiment, 'cell': cell.name, **_who(cell), 'status': 'failed', 'config': cell.config.to_json()}
    row |= {'dataset': cell.config.data.dataset, 'train_size': posed.train_size, **counts._asdict()}
    names = ('train', 'validation', 'test', 'unseen')
    row |= {f'{name}_{what}': None for name in names for what in ('accuracy', 'loss')}
    row |= {'epochs': cell.config.train.epochs, 'git': _git(), 'jax': jax.__version__, 'device': jax.devices()[0].device_kind}
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


@functools.cache
def _git() -> str | None:
    """The commit of this code, with '-dirty' where it was changed; None where there is no repository."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12']
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on in secret."""
    parent = parent_process()
    if parent is None:
        return

    def wait():
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
