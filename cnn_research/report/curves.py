"""Learning curves: one small panel per arm, all on the same axes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnn_research.report.style import BLUE, FAINT, INK, ORANGE, SOFT, WIDTH, new_figure, seeds_text, styled
from cnn_research.report.table import check_one_purpose

Row = Mapping[str, Any]
Curves = dict[int, np.ndarray]
TITLES = {
    'validation_accuracy': 'Validation accuracy during training',
    'train_accuracy': 'Train accuracy during training',
    'validation_loss': 'Validation loss during training (log scale)',
    'train_loss': 'Train loss during training (log scale)',
    'test_accuracy': 'Test accuracy during training',
    'distance': 'Distance from the nearest convolution during training',
}
PANEL = 1.45  # inches of height
LONGEST_NAME = 14  # letters that leave room for a number beside them where there are four panels in a row


@styled
def learning_curves(history: Sequence[Row], arms: Sequence[str], measure: str = 'validation_accuracy') -> Figure:
    """`measure` (a key of `TITLES`) against the epoch: mean line and min-max band over seeds, a panel per arm.

    history: epoch rows of one purpose, one run per arm and seed, in any order. Behind each arm the other arms' means
    are drawn in grey, so panels can be compared. A run that diverged is left out of mean and band and drawn on its
    own, dashed, up to a cross at its last finite epoch.
    """
    check_one_purpose(history)
    percent = measure.endswith('accuracy')
    runs = {arm: _split([row for row in history if row['arm'] == arm], measure) for arm in arms}
    columns = 4 if len(arms) > 6 and max(map(len, arms)) <= LONGEST_NAME else min(max(len(arms), 1), 3)
    rows = max(-(-len(arms) // columns), 1)
    height = 1.45 + PANEL * rows + 0.42 * (rows - 1)
    seeds = seeds_text([len(whole) for whole, _ in runs.values()])
    subtitle = f'{seeds}; line: mean over seeds, band: lowest to highest seed; grey: the other arms'
    if any(broken for _, broken in runs.values()):
        subtitle += '; dashed to ×: diverged'
    figure = new_figure(height, TITLES[measure], subtitle)
    panels = figure.subplots(
        rows, columns, sharex=True, sharey=True, squeeze=False,
        gridspec_kw={'left': 0.6 / WIDTH, 'right': 1 - 0.2 / WIDTH, 'bottom': 0.48 / height, 'top': 1 - 0.97 / height,
                     'hspace': 0.42 / PANEL, 'wspace': 0.1},
    ).ravel()  # fmt: skip
    _scale(panels[0], measure, [curve for whole, _ in runs.values() for curve in whole.values()])
    for index, (panel, arm) in enumerate(zip(panels, arms, strict=False)):
        _draw(panel, runs, arm, percent)
        panel.tick_params(labelbottom=index + columns >= len(arms), labelleft=index % columns == 0)
        if index + columns >= len(arms):
            panel.set_xlabel('epoch', loc='left')
    for panel in panels[len(arms) :]:
        panel.set_axis_off()
    return figure


def _split(rows: list[Row], measure: str) -> tuple[Curves, Curves]:
    """(runs that went through, runs that diverged), each seed -> [epochs], NaN where there is no value.

    Epoch e is at index e - 1. A null or infinite loss anywhere in a run marks it as diverged.
    """
    length = max((row['epoch'] for row in rows), default=0)
    whole: Curves = {}
    for row in rows:
        curve = whole.setdefault(row['seed'], np.full(length, np.nan))
        value = row[measure]
        if not np.isnan(curve[row['epoch'] - 1]):
            raise ValueError(f'arm {row["arm"]!r}, seed {row["seed"]} has more than one run')
        curve[row['epoch'] - 1] = math.nan if value is None else value
    broken: Curves = {}
    for row in sorted(rows, key=lambda row: (row['seed'], row['epoch'])):
        if not _finite(row['train_loss']) or not _finite(row['validation_loss']):
            broken.setdefault(row['seed'], whole.pop(row['seed'], np.empty(0)))[row['epoch'] - 1 :] = np.nan
    return dict(sorted(whole.items())), broken


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _scale(axes: Axes, measure: str, curves: list[np.ndarray]) -> None:
    """Percent from the lowest value to 100, distances from 0 to 1, or a log scale for losses; the panels share the axes."""
    longest = max((len(curve) for curve in curves), default=1)
    axes.set_xlim(1 if longest > 1 else 0.5, max(longest, 1.5))
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if measure == 'distance':
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[5]))
    elif measure.endswith('accuracy'):
        low = min((float(np.nanmin(curve)) for curve in curves), default=0.0)
        axes.set_ylim(max(math.floor(10 * low - 0.2) * 10, 0), 102)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g} %'))
    else:
        axes.set_yscale('log')
        # Plain numbers: matplotlib would label what lies between decades with powers of ten, when there are few decades.
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))


def _draw(axes: Axes, runs: Mapping[str, tuple[Curves, Curves]], arm: str, percent: bool) -> None:
    factor = 100 if percent else 1
    for other, (whole, _) in runs.items():
        if whole and other != arm:
            mean = _mean(whole)
            axes.plot(range(1, len(mean) + 1), factor * mean, color=FAINT, lw=0.7, alpha=0.75, zorder=1.5)
    whole, broken = runs[arm]
    note = ''
    if whole:
        mean, stack = _mean(whole), factor * np.stack(list(whole.values()))
        epochs = range(1, len(mean) + 1)
        if len(whole) > 1:
            axes.fill_between(epochs, np.nanmin(stack, 0), np.nanmax(stack, 0), color=BLUE, alpha=0.22, lw=0, zorder=2)
        axes.plot(epochs, factor * mean, color=BLUE, zorder=3)
        note = f'{100 * mean[-1]:.1f} %' if percent else f'{mean[-1]:.2g}'
    for curve in broken.values():
        _draw_broken(axes, factor * curve)
    box: dict[str, Any] = {
        'xycoords': 'axes fraction',
        'textcoords': 'offset points',
        'va': 'bottom',
        'annotation_clip': False,
    }
    axes.annotate(arm, (0, 1), (0, 5), size=9, weight='bold', color=INK, **box)
    axes.annotate(note or 'no finished run', (1, 1), (0, 5), size=8.5, color=BLUE if note else SOFT, ha='right', **box)


def _draw_broken(axes: Axes, curve: np.ndarray) -> None:
    """A diverged run up to its last finite epoch, which may be its first, or none at all."""
    finite = np.flatnonzero(np.isfinite(curve))
    if len(finite):
        axes.plot(finite + 1, curve[finite], color=ORANGE, lw=1, ls=(0, (3, 2)), zorder=2.5)
        axes.plot(finite[-1:] + 1, curve[finite[-1:]], 'x', color=ORANGE, ms=6, mew=1.6, zorder=4, clip_on=False)


def _mean(curves: Curves) -> np.ndarray:
    """[epochs]: the mean over the seeds that have a value at that epoch."""
    stack = np.stack(list(curves.values()))
    present = np.isfinite(stack)
    with np.errstate(invalid='ignore'):
        return np.where(present, stack, 0).sum(0) / present.sum(0)
