"""Which scheme of the sharing axis learns linear maps whose filters have rank 1, 2 or 5, from 20 examples: fits, and their tables."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import rank_learners, stats
from cnn_research.report import table
from experiments import tasks

RANKS = (1, 2, 5)
_TUNING_TASKS = 10  # that settings are compared on, and no table shows


@dataclasses.dataclass(frozen=True)
class Fit:
    """A layer of a scheme, fitted to so many tasks of a rank. A `jobs.Job`."""

    scheme: str
    rank: int
    sigma: float
    tasks: int

    @property
    def name(self) -> str:
        """Of scheme and rank."""
        return f'shared_rank-{self.scheme.replace(":", "")}-rank{self.rank}'

    @property
    def effort(self) -> int:
        """Dense layers take longest."""
        return 10 if self.scheme == 'dense' else 3

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return dataclasses.asdict(self)

    def run(self, source: Any, on_progress: Callable[[float], None]) -> dict[str, Any]:
        """What every fit got wrong, in the setting that did best on the tuning tasks."""
        rates, decays = np.array(rank_learners.SETTINGS, np.float32).T
        sigma = np.float32(self.sigma)

        def fitted(first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
            seeds = np.arange(first, first + count, dtype=np.uint32)
            errors, differences = rank_learners.fitted(self.scheme, self.rank, seeds, sigma, rates, decays)
            return np.asarray(errors, float), np.asarray(differences, float)

        tuned, _ = fitted(tasks.TUNING_TASKS, _TUNING_TASKS)
        on_progress(0.4)
        best = int(np.argmin(tuned.mean(axis=1)))
        errors, differences = (found[best].tolist() for found in fitted(0, self.tasks))
        return {'setting': rank_learners.SETTINGS[best], 'tuning_errors': tuned.tolist(), 'errors': errors, 'differences': differences}


def _done(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """The finished fits by scheme and rank."""
    return {(row['config']['scheme'], row['config']['rank']): row for row in rows if row['status'] == 'ok'}


def tables(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, tuple[str, ...], list[tuple]]]:
    """Names, titles, columns and lines: what every scheme got wrong, and how differently from the truth it shares, by rank."""
    done = _done(rows)
    titles = {
        'errors': 'expected squared error on new examples, in % of the variance of the outputs, both without noise',
        'differences': "difference of sharing: how far the cosine of two positions' filters is from the true one, mean over all pairs",
    }
    found = []
    for what, title in titles.items():
        lines = []
        for scheme in rank_learners.SCHEMES:
            cells = [_shown(done[scheme, rank][what], what) if (scheme, rank) in done else table.NONE for rank in RANKS]
            lines.append((scheme, *cells))
        found.append((what, title, ('scheme', *(f'rank {rank}' for rank in RANKS)), lines))
    return found


def _shown(values: Sequence[float], what: str) -> str:
    interval, factor = stats.mean_interval(values), 100 if what == 'errors' else 1
    assert interval.mean is not None and interval.high is not None
    return f'{factor * interval.mean:.2f} ± {factor * (interval.high - interval.mean):.2f}'


def figure(rows: Sequence[Mapping[str, Any]], tasks: int, sigma: float):
    """What every scheme got wrong, and how differently from the truth it shares, by rank."""
    from cnn_research.report import ranks

    done = _done(rows)
    schemes = [scheme for scheme in rank_learners.SCHEMES if all((scheme, rank) in done for rank in RANKS)]

    def of(what: str) -> dict[str, list[stats.Interval]]:
        return {scheme: [stats.mean_interval(done[scheme, rank][what]) for rank in RANKS] for scheme in schemes}

    title = f'Which sharing learns from {rank_learners.EXAMPLES} examples'
    subtitle = f'linear maps with noise {sigma:g}; n = {tasks} tasks per point; bars: 95 % intervals'
    return ranks.by_rank(title, subtitle, RANKS, {'expected squared error': of('errors'), 'difference of sharing': of('differences')})
