"""The figures of a report. Each function is pure: plain data in, a matplotlib `Figure` out."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from cnn_research.report.curves import learning_curves
from cnn_research.report.filters import FilterExample, first_filters
from cnn_research.report.labels import place_labels
from cnn_research.report.style import (
    BLUE,
    GRID,
    INK,
    ORANGE,
    SOFT,
    add_axes,
    figure_img,
    figure_png_data_uri,
    figure_svg,
    label_y,
    new_figure,
    seeds_text,
    short_count,
    styled,
)
from cnn_research.report.table import NONE, TEST, UNSEEN, has_unseen

__all__ = [
    'FilterExample', 'accuracy_against_weights', 'figure_img', 'figure_png_data_uri', 'figure_svg', 'first_filters',
    'learning_curves', 'seen_against_unseen',
]  # fmt: skip

Line = Mapping[str, Any]


@styled
def accuracy_against_weights(summary: Sequence[Line]) -> Figure:
    """Test accuracy (percent, 95 % t interval) against the number of weights (log scale), one labelled dot per arm.

    summary: as `table.summarise` makes it. An arm without a finished run has no dot; the subtitle names it.
    """
    shown = [line for line in summary if line['test_accuracy_mean'] is not None and line['weights']]
    subtitle = seeds_text([line['n'] for line in shown])
    if any(line['ci95_low'] is not None for line in shown):
        subtitle += '; bars: 95 % t interval of the mean, cut at 0 and 100 %'
    missing = [line['arm'] for line in summary if line not in shown]
    if missing:
        subtitle += f'; not shown, no finished run: {", ".join(missing)}'
    figure = new_figure(4.4 if len(shown) <= 6 else 5.4, 'Test accuracy against the number of weights', subtitle)
    axes = add_axes(figure, 0.75, 0.5, 0.3, 1.05)
    label_y(axes, 'test accuracy')
    axes.set_xlabel('trainable weights (log scale)', loc='left')
    if not shown:
        return figure
    weights = [line['weights'] for line in shown]
    accuracy = [100 * line['test_accuracy_mean'] for line in shown]
    spans = [[100 * min(max(line[key], 0), 1) for line in shown if line['ci95_low'] is not None] for key in ('ci95_low', 'ci95_high')]
    _scale_weights(axes, weights)
    low, high = min(accuracy + spans[0]), max(accuracy + spans[1])
    pad = max(0.12 * (high - low), 0.5)
    axes.set_ylim(max(low - pad, 0), high + pad)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g} %' if value <= 100 else ''))
    several = [line['weights'] for line in shown if line['ci95_low'] is not None]
    axes.vlines(several, spans[0], spans[1], color=BLUE, lw=1.6, alpha=0.55)
    axes.scatter(weights, accuracy, s=46, color=BLUE, edgecolor='white', linewidth=1.2, zorder=3)
    most = max(line['n'] for line in shown)
    names = [line['arm'] + (f' (n = {line["n"]})' if line['n'] < most else '') for line in shown]
    place_labels(axes, names, weights, accuracy, list(zip(several, *spans, strict=True)))
    return figure


def _scale_weights(axes: Axes, weights: Sequence[int]) -> None:
    """A log x axis with room around the dots, and ticks such as 500, 10 k and 2 M."""
    low, high = min(weights), max(weights)
    room = max((high / low) ** 0.12, 1.35)
    axes.set_xscale('log')
    axes.set_xlim(low / room, high * room)
    few = high / low < 300
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


@styled
def seen_against_unseen(summary: Sequence[Line], chance: float) -> Figure:
    """Per arm, test accuracy at the positions it was trained at and at positions it never saw, and chance level.

    summary: as `table.summarise` makes it, with at least one unseen accuracy. chance: a fraction, such as 0.1.
    """
    if not has_unseen(summary):
        raise ValueError('no arm was tested at unseen positions')
    shown = [line for line in summary if line['test_accuracy_mean'] is not None]
    subtitle = f'{seeds_text([line["n"] for line in shown])}; thin bars: 95 % t interval of the mean, cut at 0 and 100 %'
    missing = [line['arm'] for line in summary if line not in shown]
    subtitle += f'; not shown, no finished run: {", ".join(missing)}' if missing else ''
    figure = new_figure(1.65 + 0.36 * len(shown), 'Accuracy at positions seen and not seen in training', subtitle)
    names = [line['arm'] + (' (n = 1)' if line['n'] == 1 else '') for line in shown]
    axes = add_axes(figure, 0.45 + 0.076 * max(len(name) for name in names), 0.5, 2.1, 1.15)
    axes.set_ylim(len(shown) - 0.45, -0.55)
    axes.yaxis.set_major_locator(FixedLocator(range(len(shown))))
    axes.set_yticklabels(names, color=INK, size=9)
    axes.grid(axis='y', visible=False)
    axes.set_xlim(0, 103)
    axes.xaxis.set_major_locator(FixedLocator(range(0, 101, 20)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g} %'))
    axes.set_xlabel('test accuracy', loc='left')
    axes.axvline(100 * chance, color=SOFT, lw=1, ls=(0, (3, 3)), zorder=1)
    over = axes.get_xaxis_transform()
    axes.text(100 * chance, 1.015, f'chance {100 * chance:.3g} %', color=SOFT, size=8.5, ha='center', transform=over)
    for row, line in enumerate(shown):
        _dumbbell(axes, row, line)
    return figure


def _dumbbell(axes: Axes, row: int, line: Line) -> None:
    """Two joined dots, or the filled one alone where unseen was not measured, and their values at the right.

    The values stand in two columns; above the first row, each column has its dot and its name, which is the key.
    """
    frame, dpi = axes.get_window_extent(), axes.figure.dpi
    width, height = frame.width / dpi, frame.height / dpi
    dots = []
    kinds = ((TEST, BLUE, BLUE, 0.8, 'seen', 0.46), (UNSEEN, ORANGE, 'white', 1.65, 'unseen', 0.63))
    for keys, color, fill, shift, name, before in kinds:
        mean, low, high = (None if line[key] is None else 100 * line[key] for key in keys)
        look: dict[str, Any] = {'s': 44, 'color': fill, 'edgecolor': color, 'linewidth': 1.6, 'zorder': 3}
        x = 1 + shift / width
        if row == 0:
            y = 1 + 0.1 / height
            axes.text(x, y, name, color=color, size=9, weight='bold', ha='right', transform=axes.transAxes)
            axes.scatter(x - before / width, y + 0.05 / height, transform=axes.transAxes, clip_on=False, **look)
        text = NONE if mean is None else f'{mean:.1f} %'
        axes.text(x, row, text, color=color, ha='right', va='center', transform=axes.get_yaxis_transform())
        if low is not None:
            axes.hlines(row, max(low, 0), min(high or 0, 100), color=color, lw=1.4, alpha=0.6, zorder=2)
        if mean is not None:
            axes.scatter(mean, row, **look)
            dots.append(mean)
    axes.plot(dots, [row] * len(dots), color=GRID, lw=5, solid_capstyle='butt', zorder=1.5)
