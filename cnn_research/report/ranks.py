"""The figure of errors by rank and scheme. Pure: plain data in, a matplotlib `Figure` out."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from cnn_research.report.places import COLORS
from cnn_research.report.style import INK, WIDTH, add_axes, new_figure, styled
from cnn_research.stats import Interval

_STEP = 0.09  # between the schemes of a rank


@styled
def by_rank(title: str, subtitle: str, ranks: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[Interval]]]) -> Figure:
    """A panel per measure, in it for every rank the mean of every scheme (which has one Interval per rank), with its interval."""
    figure = new_figure(4.0, title, subtitle)
    gap, names = 0.6, 1.1
    width = (WIDTH - 0.6 - names - gap * (len(panels) - 1)) / len(panels)
    for i, (measure, schemes) in enumerate(panels.items()):
        left = 0.6 + i * (width + gap)
        axes = add_axes(figure, left, 0.5, WIDTH - left - width, 1.0)
        axes.annotate(measure, (0, 1), (0, 6), xycoords='axes fraction', textcoords='offset points', weight='bold', color=INK)
        for j, (color, (scheme, intervals)) in enumerate(zip(COLORS, schemes.items())):
            at = [place + _STEP * (j - (len(schemes) - 1) / 2) for place in range(len(ranks))]
            for x, (_, mean, low, high) in zip(at, map(astuple, intervals)):
                axes.plot([x], [mean], 'o', color=color, ms=5)
                axes.plot([x, x], [low, high], color=color, lw=1.4)
            if i == len(panels) - 1:
                height = 0.95 - 0.09 * j
                axes.annotate(scheme, (1, height), (10, 0), xycoords='axes fraction', textcoords='offset points', color=color, size=9)
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.xaxis.set_major_locator(FixedLocator(list(range(len(ranks)))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'rank {ranks[round(value)]}'))
        if i == 0:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:g} %'))
    return figure
