"""How many examples learners need: cells that search for n, what their workers do, what their rows say, and the tables of a study."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import learners, needed
from cnn_research.report import table

Size = tuple[int, ...]
Counts = Mapping[tuple[str, Size], needed.Needed]  # (model, size) -> examples
_TUNING_SEEDS = 5  # that settings are compared on


@dataclasses.dataclass(frozen=True)
class Study:
    """A task whose models are compared along lines of growing sizes.

    learner: of a model and a size. columns: what the numbers of a size are called. lines: the sizes along an axis, by its name; `along`:
    the number on that axis of a size. ratios: pairs of models, of which the first is said to need more. claims: by model, what theory says
    of its need, without constants, as formula and function of a size's numbers; none: of none.
    """

    models: tuple[str, ...]
    learner: Callable[[str, Size], learners.Learner]
    columns: tuple[str, ...]
    lines: Mapping[str, Sequence[Size]]
    along: Callable[[str, Size], float]
    ratios: tuple[tuple[str, str], ...]
    claims: Mapping[str, Mapping[str, Callable[..., float]]]

    @property
    def sizes(self) -> list[Size]:
        """All sizes, by rising numbers."""
        return sorted({size for line in self.lines.values() for size in line})


@dataclasses.dataclass(frozen=True)
class Search:
    """A search for the examples that a learner needs to reach `target`, `most` at most, by so many seeds at every n. A `jobs.Job`."""

    learner: learners.Learner
    target: float
    seeds: int
    most: int

    @property
    def name(self) -> str:
        """Of task, model and size."""
        return f'{self.learner.task.replace("/", "-")}-{self.learner.model}-{"x".join(map(str, self.learner.size))}'

    @property
    def effort(self) -> int:
        """That of a training."""
        return self.learner.effort

    def to_json(self) -> dict[str, Any]:
        """The fields, those of the learner among them."""
        return {**dataclasses.asdict(self)['learner'], 'target': self.target, 'seeds': self.seeds, 'most': self.most}

    def run(self, source: Any, on_progress: Callable[[float], None]) -> dict[str, Any]:
        """All points, with the accuracies of every training in every setting."""
        tried, learner = itertools.count(), self.learner
        counts = {'score': self.seeds, 'tune': _TUNING_SEEDS}

        def trained(n: int) -> needed.Point:
            on_progress(1 - 6 / (6 + next(tried)))
            seeds = {what: [_seed(self.name, what, n, i) for i in range(count)] for what, count in counts.items()}
            scores, tuned = (np.stack([learner.evaluated(n, seed, source, what == 'tune') for seed in seeds[what]]) for what in counts)
            return needed.Point(n, scores, tuned)

        points = needed.search(trained, self.target, needed.FIRST, min(self.most, learner.available(source)))
        points_ = [_point(point, learner.settings) for point in points]
        return {'arm': learner.model, 'size': list(learner.size), 'settings': learner.settings, 'points': points_}


def _seed(*what: Any) -> int:
    """A seed that no other cell, number of examples or use has, but by a chance of one in four thousand million."""
    return int.from_bytes(hashlib.sha256('/'.join(map(str, what)).encode()).digest()[:4])


def _point(point: needed.Point, settings: learners.Settings) -> dict[str, Any]:
    """As a row holds it; accuracies have as many digits as there are examples to tell."""
    scores, tuned = ([[round(float(score), 5) for score in seed] for seed in a] for a in (point.scores, point.tuned))
    return {'n': point.n, 'setting': settings[point.best], 'accuracies': scores, 'tuning_accuracies': tuned}


def found(row: Mapping[str, Any]) -> needed.Needed:
    """The examples needed, from the points of a row."""
    points = [needed.Point(p['n'], np.array(p['accuracies']), np.array(p['tuning_accuracies'])) for p in row['points']]
    return needed.needed(points, row['config']['target'])


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, Size], needed.Needed]:
    """The examples needed in every finished search."""
    return {(row['arm'], tuple(row['size'])): found(row) for row in rows if row['status'] == 'ok'}


def needed_table(study: Study, examples: Counts) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: the examples that every model needs at every size, and how many times those of another."""
    columns = (*study.columns, *study.models, *(f'{more} / {less}' for more, less in study.ratios))
    lines = []
    for size in study.sizes:
        own = {model: examples.get((model, size)) for model in study.models}
        ratios = [shown_ratio(own[more], own[less]) for more, less in study.ratios]
        lines.append((*map(str, size), *map(shown, own.values()), *ratios))
    return columns, lines


def shown(count: needed.Needed | None) -> str:
    """'1,570 (1,400 to 1,760)', 'more than 131,072', or 'at most 4'."""
    if count is None:
        return table.NONE
    if count.censored:
        return f'more than {count.low:,.0f}' if math.isinf(count.n) else f'at most {count.n:,.0f}'
    upper = 'open' if math.isinf(count.high) else f'{count.high:,.0f}'
    return f'{count.n:,.0f} ({count.low:,.0f} to {upper})'


def shown_ratio(more: needed.Needed | None, less: needed.Needed | None) -> str:
    """'14.2 (11.8 to 17.1)', or 'above 9.3' where only a bound of it is known."""
    if more is None or less is None:
        return table.NONE
    ratio = needed.ratio(more, less)
    if ratio is None:
        return table.NONE
    if math.isinf(ratio.value):
        return f'above {_factor(ratio.low)}'
    low, high = (_factor(end) if 0 < end < math.inf else 'open' for end in (ratio.low, ratio.high))
    return f'{_factor(ratio.value)} ({low} to {high})'


def _factor(value: float) -> str:
    return f'{value:,.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2g}'


def exponents(study: Study, examples: Counts) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: the exponent of every model along every line of sizes, and those that the claims have on the same sizes."""
    columns = ('model', 'against', 'exponent', '95 %', 'points', 'censored', *(('claims',) if study.claims else ()))
    rows = []
    for model in study.models:
        for axis, sizes in study.lines.items():
            at = [study.along(axis, size) for size in sizes]
            own = [examples[model, size] for size in sizes if (model, size) in examples]
            censored = sum(count.censored for count in own)
            slope = between = table.NONE
            if len(own) == len(sizes) > 2 and len(own) - censored > 1:
                e = needed.exponent(at, own)
                slope, between = f'{e.slope:.2f}', f'{e.low:.2f} to {e.high:.2f}'
            claims = '; '.join(
                f'{formula}: {abs(np.polyfit(np.log(at), np.log([claim(*size) for size in sizes]), 1)[0]):.2f}'
                for formula, claim in study.claims.get(model, {}).items()
            )
            line = (model, axis, slope, between, str(len(own)), str(censored))
            rows.append((*line, claims or table.NONE) if study.claims else line)
    return columns, rows


def marks(study: Study, examples: Counts) -> dict[str, dict[str, list]]:
    """The panels of `report.needed.examples_needed`."""
    from cnn_research.report.needed import Mark

    panels: dict[str, dict[str, list]] = {}
    for axis, sizes in study.lines.items():
        panels[axis] = {}
        for model in study.models:
            known = [(study.along(axis, size), examples[model, size]) for size in sizes if (model, size) in examples]
            panels[axis][model] = [Mark(at, c.n, c.low, c.high) for at, c in known]
    return panels
