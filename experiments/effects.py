"""What each level of each factor adds, from the arms of a factorial; and accuracy by distance from where training was."""

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cnn_research import stats
from cnn_research.data import canvas
from cnn_research.report import places, style, table

Rows = Sequence[Mapping[str, Any]]
Levels = Mapping[str, tuple[str, ...]]  # arm -> its level of every factor
MEASURES = {'unseen_accuracy': 'unseen', 'anywhere_accuracy': 'anywhere', 'consistency': 'consistency', 'circular_consistency': 'circular'}


def say(rows: Rows, arms: Sequence[str], factors: Mapping[str, tuple[str, ...]], levels: Levels, chance: float) -> tuple[str, list]:
    """The text of `translation` below its table, and its figure of accuracy by distance."""
    rows = [row for row in rows if row['status'] == 'ok']
    text = [measures(rows, arms)]
    score = means(rows, 'unseen_accuracy')
    balanced = {arm: at for arm, at in levels.items() if at[0] != 'dense'}
    missing = [arm for arm in balanced if arm not in score]
    if not missing:
        text += [main_effects(score, factors, balanced), interactions(score, factors, balanced)]
    elif len(missing) < len(balanced) / 2:
        text.append(f'no effects: they need all {len(balanced)} combinations, and these did not finish: {", ".join(missing)}')
    pictures = [('Accuracy by distance', 'From the nearest column of training.', by_distance(rows, factors, levels, chance))]
    return '\n\n'.join(text), pictures if pictures[0][2] else []


def means(rows: Rows, measure: str) -> dict[str, float]:
    """The mean over seeds by arm."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.get(measure) is not None:
            found.setdefault(row['arm'], []).append(row[measure])
    return {arm: statistics.fmean(values) for arm, values in found.items()}


def measures(rows: Rows, arms: Sequence[str]) -> str:
    """The table of what was probed, by arm."""
    lines = []
    for arm in arms:
        cells = []
        for measure in MEASURES:
            found = stats.mean_interval(row[measure] for row in rows if row['arm'] == arm and row.get(measure) is not None)
            cells.append(table.interval(found))
        lines.append((arm, *cells))
    return f'{table.plain(("arm", *MEASURES.values()), lines)}\nin %; ±: half the 95 % t interval over seeds'


def main_effects(score: Mapping[str, float], factors: Mapping[str, tuple[str, ...]], levels: Levels) -> str:
    """What each level adds to the unseen accuracy over the first of its factor, over all combinations of the others (a balanced design)."""
    lines = []
    for i, (factor, names) in enumerate(factors.items()):
        of = {level: {(*at[:i], *at[i + 1 :]): score[arm] for arm, at in levels.items() if at[i] == level} for level in names}
        first = of[names[0]]
        for level in names:
            if not of[level]:
                continue
            less = [100 * (of[level][others] - first[others]) for others in first]
            spread = table.NONE if level == names[0] else f'{min(less):+.1f} to {max(less):+.1f}'
            adds = table.NONE if level == names[0] else f'{statistics.fmean(less):+.1f}'
            lines.append((factor, level, str(len(less)), f'{100 * statistics.fmean(of[level].values()):.1f}', adds, spread))
    title = 'unseen accuracy (%) by level, and what it adds to the first level, over all combinations of the other factors'
    return f'{title}\n{table.plain(("factor", "level", "networks", "mean", "adds", "lowest to highest"), lines)}'


def interactions(score: Mapping[str, float], factors: Mapping[str, tuple[str, ...]], levels: Levels) -> str:
    """Shares of the variance between the combinations: of every factor, of every pair beyond its two factors, and of the rest."""
    grand = statistics.fmean(score[arm] for arm in levels)
    total = sum((score[arm] - grand) ** 2 for arm in levels) or 1.0  # all alike: no share of anything

    def explained(chosen: Iterable[int]) -> float:
        groups: dict[tuple[str, ...], list[float]] = {}
        for arm, at in levels.items():
            groups.setdefault(tuple(at[i] for i in chosen), []).append(score[arm])
        return sum(len(values) * (statistics.fmean(values) - grand) ** 2 for values in groups.values())

    names = list(factors)
    single = {i: explained((i,)) for i in range(len(names))}
    lines = [(names[i], f'{100 * value / total:.1f}') for i, value in single.items()]
    pairs = [(i, j, explained((i, j)) - single[i] - single[j]) for i, j in itertools.combinations(single, 2)]
    lines += [(f'{names[i]} x {names[j]}', f'{100 * value / total:.1f}') for i, j, value in pairs]
    rest = total - sum(single.values()) - sum(value for *_, value in pairs)
    lines.append(('three and four together, and chance', f'{100 * rest / total:.1f}'))
    return f'share (%) of the variance of unseen accuracy between {len(levels)} combinations\n{table.plain(("what", "share"), lines)}'


def by_distance(rows: Rows, factors: Mapping[str, tuple[str, ...]], levels: Levels, chance: float) -> Any:
    """The figure: a panel for each factor, with the base and the arms that differ from it in this factor alone; None without probes."""
    curves, base = distances(rows), next(iter(levels))
    if base not in curves:
        return None
    x = sorted(curves[base])
    panels = {}
    for i, (factor, names) in enumerate(factors.items()):
        arms = {level: '_'.join((*levels[base][:i], level, *levels[base][i + 1 :])) for level in names}
        panels[factor] = {level: [curves[arm][d] for d in x] for level, arm in arms.items() if arm in curves}
    seeds = style.seeds_text([sum(row['arm'] == arm for row in rows) for arm in curves])
    subtitle = f'{seeds}; mean over seeds and positions; each panel changes one factor of {base.replace("_", ", ")}; dashed: chance'
    title = 'Accuracy by distance from where training was'
    figure = places.curve_panels(title, subtitle, x, panels, 'pixels from the nearest training position', chance)
    return style.figure_svg(figure)


def distances(rows: Rows) -> dict[str, dict[int, float]]:
    """arm -> distance from the nearest training position -> accuracy, the mean over seeds and positions.

    Distance is in pixels, the larger of that in rows and that in columns.
    """
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if row.get('position_accuracy') is None:
            continue
        data = row['config']['data']
        sides = [max(row[f'position_{axis}']) for axis in ('rows', 'columns')]
        image = tuple(side - most for side, most in zip(data['canvas'], sides))
        trained = canvas.positions(data['train_positions'], image, tuple(data['canvas']))  # type: ignore[arg-type]
        for at, line in zip(row['position_rows'], row['position_accuracy']):
            for column, accuracy in zip(row['position_columns'], line):
                distance = int(np.abs(trained - [at, column]).max(axis=1).min())
                found.setdefault(row['arm'], {}).setdefault(distance, []).append(accuracy)
    return {arm: {d: statistics.fmean(values) for d, values in of.items()} for arm, of in found.items()}


def by_amount(
    rows: Rows, arms: Sequence[str], curves: Mapping[str, Sequence[str]], amounts: Sequence[float], chance: float
) -> tuple[str, list]:
    """The table of what was probed, and the figure of accuracy all over the canvas against an amount.

    curves: name of a line -> its arms, in the order of `amounts`.
    """
    rows = [row for row in rows if row['status'] == 'ok']
    anywhere = means(rows, 'anywhere_accuracy')
    whole = {name: of for name, of in curves.items() if all(arm in anywhere for arm in of)}
    if not whole:
        return measures(rows, arms), []
    there = {arm: of[0] for arm, of in distances(rows).items()}
    panels = {title: {name: [score[arm] for arm in of] for name, of in whole.items()} for title, score in (
        ('all over the canvas', anywhere), ('where training had them', there))}  # fmt: skip
    seeds = style.seeds_text([sum(row['arm'] == arm for row in rows) for arm in anywhere])
    subtitle = f'{seeds}; mean over seeds; dashed: chance'
    title = 'Test accuracy against how far training images are moved'
    figure = places.curve_panels(title, subtitle, amounts, panels, 'moved by up to this share of the side', chance)
    return measures(rows, arms), [('Moved training images', 'The same test images in both panels.', style.figure_svg(figure))]
