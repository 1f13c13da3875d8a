"""How many training images do shared filters save? The cells of `sample_efficiency` on a data set of images, and what their rows say."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import config, cost, data, needed, stats
from cnn_research.report import table
from cnn_research.sweep import Cell
from experiments import runner, searches
from experiments.tasks import NETWORKS, TUNING_SEED

GRID = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000)
SETTINGS = tuple((rate, decay) for rate in (0.002, 0.01) for decay in (0.01, 0.5))  # that are tried for every network and n
TARGETS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.875, 0.9, 0.925, 0.95, 0.975, 0.99)
_TUNED = 10_000  # above so many images nothing is tuned: the settings of the largest n up to there are taken
_LEAST_STEPS = 400
_MANY = 30_000  # with more images, three seeds are enough
_FEATURES = (8, 16)


def sizes(available: int) -> list[int]:
    """The numbers of training images that are tried: the grid, and all; what is nearly all is left out."""
    return [n for n in GRID if n < 0.8 * available] + [available]


def configuration(dataset: str, network: str, n: int, setting: tuple[float, float]) -> config.Config:
    """A network trained on n images: at least 8 (digits: 20) passes, and 400 steps."""
    model = config.ModelConfig(features=_FEATURES).with_sharing(NETWORKS[network])
    full = runner.full(model)
    train = (runner.digits(model) if dataset.partition('/')[0] == 'digits' else full).train
    passes = math.ceil(_LEAST_STEPS / (train.epochs * max(1, n // train.batch_size)))
    rate, decay = setting
    own = dataclasses.replace(train, passes=passes, learning_rate=rate, weight_decay=decay)
    return config.Config(model, config.DataConfig(dataset, train_size=n), own)


def _cell(dataset: data.Dataset, network: str, n: int, setting: tuple[float, float], seed: int, purpose: str) -> Cell:
    c = configuration(dataset.name, network, n, setting)
    image, classes = dataset.train_images.shape[1:], len(dataset.class_names)
    macs, need = cost.total(c.model, image, classes).macs, cost.training_bytes(c.model, image, classes, c.train)
    return Cell(f'{network}-n{n}', seed, c, macs, purpose, need)


def tuning_cells(dataset: data.Dataset, networks: Sequence[str], ns: Sequence[int]) -> list[Cell]:
    """Every setting, for every network and n that is tuned."""
    tuned = [(network, n) for network in networks for n in ns if n <= _tuned_at(ns, n)]
    return [_cell(dataset, *one, setting, TUNING_SEED, 'tune') for one in tuned for setting in SETTINGS]


def main_cells(
    dataset: data.Dataset, networks: Sequence[str], ns: Sequence[int], seeds: int | None, rows: Sequence[Mapping[str, Any]]
) -> list[Cell]:
    """Every network and n for all seeds, in the setting with the best validation accuracy among the tuning `rows`.

    A network that has no setting, for it was refused or failed there, is left out. seeds None: five, three where there are many images.
    """
    scores = {
        (row['arm'], row['learning_rate'], row['config']['train']['weight_decay']): row['validation_accuracy'] or 0.0
        for row in rows
        if row['purpose'] == 'tune' and row['status'] in ('ok', 'diverged')
    }
    cells = []
    for network in networks:
        for n in ns:
            arm = f'{network}-n{_tuned_at(ns, n)}'
            own = {setting: scores.get((arm, *setting)) for setting in SETTINGS}
            if None in own.values():
                continue
            best = max(SETTINGS, key=lambda setting, own=own: own[setting])  # type: ignore[misc]
            cells += [_cell(dataset, network, n, best, seed, 'main') for seed in range(seeds or (3 if n > _MANY else 5))]
    return cells


def _tuned_at(ns: Sequence[int], n: int) -> int:
    """The number of images whose setting is taken for n."""
    return max(other for other in ns if other <= min(n, max(_TUNED, ns[0])))


Scores = Mapping[str, Mapping[int, Sequence[float]]]  # network -> images -> test accuracy of every seed


def accuracies(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, list[float]]]:
    """The test accuracies of the main runs; one that diverged counts as 0."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in sorted(rows, key=lambda row: (row['train_size'], row['seed'])):
        if row['purpose'] == 'main' and row['status'] in ('ok', 'diverged'):
            network = row['arm'].rpartition('-')[0]
            found.setdefault(network, {}).setdefault(row['train_size'], []).append(row['test_accuracy'] or 0.0)
    return {network: found[network] for network in NETWORKS if network in found}


def accuracy_table(scores: Scores) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: test accuracy by number of training images."""
    ns = sorted({n for by_n in scores.values() for n in by_n})
    lines = [(f'{n:,}', *(_mean(by_n.get(n, ())) for by_n in scores.values())) for n in ns]
    return ('training images', *scores), lines


def _mean(values: Sequence[float]) -> str:
    interval = stats.mean_interval(values)
    if interval.mean is None:
        return table.NONE
    half = '' if interval.high is None else f' ± {100 * (interval.high - interval.mean):.1f}'
    return f'{100 * interval.mean:.1f}{half}'


def examples_needed(scores: Scores) -> dict[float, dict[str, needed.Needed]]:
    """target -> network -> images needed, for the targets that at least one network reaches and not all reach with the fewest."""
    found = {}
    for target in TARGETS:
        counts = {network: needed.needed(_points(by_n), target) for network, by_n in scores.items() if len(_points(by_n)) > 1}
        if any(math.isfinite(count.n) for count in counts.values()) and any(count.n > count.least for count in counts.values()):
            found[target] = counts
    return found


def _points(by_n: Mapping[int, Sequence[float]]) -> list[needed.Point]:
    """Points of one setting, which was chosen beforehand."""
    return [needed.Point(n, np.array(values)[:, None], np.zeros((1, 1))) for n, values in by_n.items() if len(values) > 1]


def needed_table(counts: Mapping[float, Mapping[str, needed.Needed]]) -> tuple[tuple[str, ...], list[tuple]]:
    """Columns and lines: the images needed for a test accuracy, and how many times those of a convolution."""
    networks = [network for network in NETWORKS if any(network in by for by in counts.values())]
    others = [network for network in networks if network != 'conv'] if 'conv' in networks else []
    lines = []
    for target, by in counts.items():
        ratios = [searches.shown_ratio(by.get(other), by.get('conv')) for other in others]
        lines.append((f'{100 * target:g} %', *(searches.shown(by.get(network)) for network in networks), *ratios))
    return ('accuracy', *networks, *(f'{other} / conv' for other in others)), lines


def figure(dataset: str, scores: Scores, counts: Mapping[float, Mapping[str, needed.Needed]], chance: float):
    """Accuracy against images, and what the others need as a multiple of what a convolution needs."""
    from cnn_research.report import samples, style

    curves, ratios = {}, {}
    for network, by_n in scores.items():
        intervals = {n: stats.mean_interval(values) for n, values in by_n.items()}
        curves[network] = [_spread(n, interval) for n, interval in intervals.items()]
        pairs = [(target, by.get(network), by.get('conv')) for target, by in counts.items()] if network != 'conv' else []
        found = [(target, needed.ratio(more, less)) for target, more, less in pairs if more is not None and less is not None]
        ratios[network] = [samples.Spread(target, *ratio) for target, ratio in found if ratio is not None]
    seeds = style.seeds_text([len(values) for by_n in scores.values() for values in by_n.values()])
    title = f'How many training images sharing saves on {dataset}'
    return samples.accuracy_and_ratios(
        title, f'{seeds}; bands and bars: 95 % intervals; triangles: more than that', curves, ratios, 'conv', chance
    )


def _spread(n: int, interval: stats.Interval):
    from cnn_research.report.samples import Spread

    mean = interval.mean or 0.0
    return Spread(n, mean, *(mean if end is None else end for end in (interval.low, interval.high)))
