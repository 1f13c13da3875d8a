"""The figures of accuracy against training images. Pure: plain data in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cnn_research.report.places import COLORS
from cnn_research.report.style import INK, SOFT, WIDTH, add_axes, new_figure, short_count, styled


class Spread(NamedTuple):
    """A mean at x, with the ends of its interval (the mean itself where there is none)."""

    x: float
    mean: float
    low: float
    high: float


@styled
def accuracy_and_ratios(
    title: str, subtitle: str, curves: Mapping[str, Sequence[Spread]], ratios: Mapping[str, Sequence[Spread]], against: str, chance: float
) -> Figure:
    """Left: accuracy against training images, a line with its band per network. Right: times as many images as `against` needs for it.

    curves: network -> accuracies in [0, 1] by rising number of images. ratios: network -> ratios by rising accuracy; a high end of inf is
    open, a mean of inf means that only the low end is known, and is drawn as a triangle.
    """
    figure = new_figure(4.4, title, subtitle)
    left = add_axes(figure, 0.7, 0.55, WIDTH - 4.7, 1.0)
    left.set_xscale('log')
    left.set_ylim(0, 1.02)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:g} %'))
    xs = sorted({point.x for curve in curves.values() for point in curve})
    left.xaxis.set_major_locator(FixedLocator(_apart(xs)))
    left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    left.set_xlabel('training images (log scale)', loc='left')
    left.axhline(chance, color=SOFT, lw=1, ls=(0, (3, 3)), zorder=1)
    right = add_axes(figure, 5.3, 0.55, 0.2, 1.0)
    right.set_yscale('log')
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:g} %'))
    right.set_xlabel('accuracy', loc='left')
    for axes, text in ((left, 'test accuracy'), (right, f'times as many images as {against}')):
        axes.annotate(text, (0, 1), (0, 6), xycoords='axes fraction', textcoords='offset points', weight='bold', color=INK)
    left.xaxis.set_minor_locator(NullLocator())
    right.yaxis.set_minor_locator(NullLocator())
    for color, (network, curve) in zip(COLORS, curves.items()):
        at = [point.x for point in curve]
        left.fill_between(at, [point.low for point in curve], [point.high for point in curve], color=color, alpha=0.2, lw=0)
        left.plot(at, [point.mean for point in curve], 'o-', color=color, ms=3.5)
        _ratios(right, ratios.get(network, ()), color)
    _names(left, curves)
    ends = [end for line in ratios.values() for point in line for end in point[1:] if math.isfinite(end) and end > 0]
    if ends:
        right.set_ylim(min(0.8, min(ends) / 1.2), max(ends) * 1.5)
        right.yaxis.set_major_locator(
            FixedLocator([tick for tick in (0.5, 1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500) if tick < max(ends) * 1.5])
        )
    right.axhline(1, color=SOFT, lw=1, ls=(0, (3, 3)), zorder=1)
    return figure


def _ratios(axes, line: Sequence[Spread], color: str) -> None:
    known = [point for point in line if math.isfinite(point.mean)]
    axes.plot([point.x for point in known], [point.mean for point in known], 'o-', color=color, ms=3.5)
    for point in known:
        top = point.high if math.isfinite(point.high) else 1e9
        axes.plot([point.x] * 2, [max(point.low, 1e-9), top], color=color, lw=1)
    bounds = [point for point in line if math.isinf(point.mean)]
    axes.plot([point.x for point in bounds], [point.low for point in bounds], '^', color=color, ms=7, mfc='white')


def _names(axes, curves: Mapping[str, Sequence[Spread]]) -> None:
    """A legend in the lower right corner, where no curve of accuracies is."""
    for i, (color, network) in enumerate(reversed(list(zip(COLORS, curves)))):
        axes.annotate(network, (0.98, 0.06 + 0.075 * i), xycoords='axes fraction', color=color, ha='right', size=9, weight='bold')


def _apart(xs: Sequence[float]) -> list[float]:
    """Those of the rising numbers that the next one leaves room for on a logarithmic axis."""
    return [x for x, after in zip(xs, (*xs[1:], math.inf)) if after >= 2 * x]
