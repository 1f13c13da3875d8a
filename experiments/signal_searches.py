"""How many examples learners need for the signal tasks: cells that search for n, what their workers do, and what their rows say."""

import dataclasses
import hashlib
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import needed
from cnn_research.report import table

MODELS = ('shared', 'local', 'dense')
SETTINGS = tuple(itertools.product((1.0, 2.0, 4.0, 8.0), (0.3, 1.0, 3.0, 10.0)))  # thresholds and rates that are tried at every n
_TUNING_SEEDS = 5  # that settings are compared on
FIRST, MOST = 64, 2**20  # examples that are tried first, and that may be asked for
# What theory claims of the dynamic signal, without its constants: (patches, dimension) to examples.
CLAIMS: dict[str, dict[str, Callable[[int, int], float]]] = {
    'shared': {'k + d': lambda k, d: k + d},
    'local': {'k d': lambda k, d: k * d, 'k (k + d)': lambda k, d: k * (k + d)},
    'dense': {'k^2 d': lambda k, d: k * k * d},
}


@dataclasses.dataclass(frozen=True)
class Search:
    """A search for the examples that a model needs to reach `target`, `most` at most, by so many seeds at every n."""

    task: str
    model: str
    patches: int
    dimension: int
    sigma: float
    target: float
    seeds: int
    most: int

    def to_json(self) -> dict[str, Any]:
        """The fields, as a row holds them."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A search as a sweep's cell."""

    config: Search
    purpose: str = 'main'
    need: int = 0

    @property
    def arm(self) -> str:
        """Each is its own: no two share a program."""
        return self.name

    @property
    def name(self) -> str:
        """Safe as a file name, unique in its study."""
        c = self.config
        return f'{c.task}-{c.model}-patches{c.patches}-dimension{c.dimension}'

    @property
    def effort(self) -> int:
        """How long it takes beside others, roughly."""
        c = self.config
        return {'shared': 1, 'local': 2, 'dense': 2 + c.patches}[c.model] * (100 + c.patches * c.dimension)


def work(
    folder: str, experiment: str, cells: list[Cell], source: Any, news: Any, before: dict[str, Any], memory: int | None = None
) -> None:
    """What a worker process of a sweep does with such cells."""
    from cnn_research import worker

    worker.share(folder, [[cell] for cell in cells], lambda team, heard: searched(experiment, team[0], heard), news, before)


def searched(experiment: str, cell: Cell, on_progress: Callable[[float], None]) -> Iterator[tuple[dict[str, Any], list, dict]]:
    """The row of a search: all its points, with the accuracies of every training in every setting; or the error that ended it."""
    import jax

    from cnn_research import learners, worker

    c, started, tried = cell.config, time.perf_counter(), itertools.count()
    learning = learners.Learning(c.task, c.model, c.patches, c.dimension)

    def trained(n: int) -> needed.Point:
        on_progress(1 - 6 / (6 + next(tried)))
        seeds = {
            what: [_seed(cell.name, what, n, i) for i in range(count)] for what, count in (('score', c.seeds), ('tune', _TUNING_SEEDS))
        }
        found = {what: np.stack([learners.evaluated(learning, n, seed, c.sigma, SETTINGS) for seed in own]) for what, own in seeds.items()}
        return needed.Point(n, found['score'], found['tune'])

    row = {'experiment': experiment, 'cell': cell.name, 'arm': c.model, 'seed': 0, 'purpose': 'main', 'status': 'ok', 'config': c.to_json()}
    try:
        points = needed.search(trained, c.target, FIRST, c.most)
        row |= {'settings': SETTINGS, 'points': [_point(point) for point in points]}
    except Exception as e:  # anything a training can raise, out of memory included: the other searches go on
        row |= worker.failure(e)
    row |= {'jax': jax.__version__, 'device': jax.devices()[0].device_kind, 'seconds': time.perf_counter() - started}
    yield row, [], {}


def _seed(*what: Any) -> int:
    """A seed that no other cell, number of examples or use has, but by a chance of one in four thousand million."""
    return int.from_bytes(hashlib.sha256('/'.join(map(str, what)).encode()).digest()[:4])


def _point(point: needed.Point) -> dict[str, Any]:
    """As a row holds it; accuracies have as many digits as there are examples to tell."""
    scores, tuned = ([[round(float(score), 5) for score in seed] for seed in a] for a in (point.scores, point.tuned))
    return {'n': point.n, 'setting': SETTINGS[point.best], 'accuracies': scores, 'tuning_accuracies': tuned}


def found(row: Mapping[str, Any]) -> needed.Needed:
    """The examples needed, from the points of a row."""
    points = [needed.Point(p['n'], np.array(p['accuracies']), np.array(p['tuning_accuracies'])) for p in row['points']]
    return needed.needed(points, row['config']['target'])


Counts = Mapping[tuple[str, int, int], needed.Needed]  # (model, patches, dimension) -> examples


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, int, int], needed.Needed]:
    """The examples needed in every finished search."""
    done = [row for row in rows if row['status'] == 'ok']
    return {(row['config']['model'], row['config']['patches'], row['config']['dimension']): found(row) for row in done}


def needed_table(examples: Counts, points: Sequence[tuple[int, int]]) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: the examples that every model needs, and how many times those of the model before it."""
    columns = ('patches', 'dimension', *MODELS, 'local / shared', 'dense / local')
    lines = []
    for patches, dimension in points:
        own = [examples.get((model, patches, dimension)) for model in MODELS]
        lines.append((str(patches), str(dimension), *map(shown, own), _ratio(own[1], own[0]), _ratio(own[2], own[1])))
    return columns, lines


def shown(count: needed.Needed | None) -> str:
    """'1,570 (1,400 to 1,760)', 'more than 131,072', or 'at most 4'."""
    if count is None:
        return table.NONE
    if count.censored:
        return f'more than {count.low:,.0f}' if math.isinf(count.n) else f'at most {count.n:,.0f}'
    upper = 'open' if math.isinf(count.high) else f'{count.high:,.0f}'
    return f'{count.n:,.0f} ({count.low:,.0f} to {upper})'


def _ratio(more: needed.Needed | None, less: needed.Needed | None) -> str:
    if more is None or less is None or less.censored or (more.censored and more.low == 0):
        return table.NONE
    return f'above {more.low / less.high:.1f}' if more.censored else f'{more.n / less.n:.1f}'


def exponents(examples: Counts, lines: Mapping[str, Sequence[tuple[int, int]]], claimed: bool) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: the exponent of every model along every line of sizes, and those that the claims have on the same sizes."""
    columns = ('model', 'against', 'exponent', '95 %', 'points', 'censored', *(('claims',) if claimed else ()))
    rows = []
    for model in MODELS:
        for what, points in lines.items():
            sizes = [point[what == 'dimension'] for point in points]
            own = [examples[(model, *point)] for point in points if (model, *point) in examples]
            if len(own) < len(points) or len(points) < 3 or sum(not count.censored for count in own) < 2:
                continue
            e = needed.exponent(sizes, own)
            claims = ', '.join(
                f'{name}: {np.polyfit(np.log(sizes), np.log([claim(*point) for point in points]), 1)[0]:.2f}'
                for name, claim in CLAIMS[model].items()
            )
            line = (model, what, f'{e.slope:.2f}', f'{e.low:.2f} to {e.high:.2f}', str(e.points), str(e.censored))
            rows.append((*line, claims) if claimed else line)
    return columns, rows


def marks(examples: Counts, lines: Mapping[str, Sequence[tuple[int, int]]]) -> dict[str, dict[str, list]]:
    """The panels of `report.needed.examples_needed`."""
    from cnn_research.report.needed import Mark

    panels: dict[str, dict[str, list]] = {}
    for what, points in lines.items():
        fixed = points[0][what == 'patches']
        label = f'{what} (of dimension {fixed})' if what == 'patches' else f'{what} (of {fixed} patches)'
        panels[label] = {}
        for model in MODELS:
            known = [(point[what == 'dimension'], examples[(model, *point)]) for point in points if (model, *point) in examples]
            panels[label][model] = [Mark(size, c.n, c.low, c.high) for size, c in known]
    return panels
