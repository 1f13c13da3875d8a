"""The figure of examples needed against the size of a task. Pure: plain data in, a matplotlib `Figure` out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from cnn_research.report import places
from cnn_research.report.labels import APART, moved_apart
from cnn_research.report.style import BLUE, ORANGE, WIDTH, add_axes, label_y, new_figure, short_count, styled

HEIGHT = 4.6  # inches
COLORS = {'shared': BLUE, 'local': places.COLORS[2], 'dense': ORANGE}  # other models: the palette's, in their order


class Mark(NamedTuple):
    """Examples needed at one size, with the ends of the interval: high inf is open. n inf: more than `low`; low 0: at most n."""

    size: float
    n: float
    low: float
    high: float


@styled
def examples_needed(title: str, subtitle: str, panels: Mapping[str, Mapping[str, Sequence[Mark]]]) -> Figure:
    """A panel per size that grows (its name is the label below), in it a line per model, all on the same log scales.

    Bars are intervals, with an arrow where they are open. A triangle is a bound: above it where it points up, below it where down.
    """
    figure = new_figure(HEIGHT, title, subtitle)
    width = (WIDTH - 1.7) / len(panels)
    marks = [mark for lines in panels.values() for line in lines.values() for mark in line]
    ends = [end for mark in marks for end in (mark.n, mark.low, mark.high) if math.isfinite(end) and end > 0]
    for i, (label, lines) in enumerate(panels.items()):
        axes = add_axes(figure, 0.75 + i * width, 0.55, WIDTH - 0.75 - (i + 1) * width + 0.35, 1.0)
        axes.set_yscale('log')
        axes.set_ylim(min(ends) / 1.6, max(ends) * 2)
        _draw(axes, lines)
        if i == len(panels) - 1:
            _name(axes, lines)
        axes.set_xlabel(label, loc='left')
        if i:
            axes.tick_params(labelleft=False)
        else:
            label_y(axes, 'examples (log scale)')
    return figure


def _draw(axes: Axes, lines: Mapping[str, Sequence[Mark]]) -> None:
    axes.set_xscale('log')
    sizes = sorted({mark.size for line in lines.values() for mark in line})
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    for color, line in zip(_colors(lines), lines.values()):
        exact = [mark for mark in line if math.isfinite(mark.n) and mark.low > 0]
        axes.plot([mark.size for mark in exact], [mark.n for mark in exact], 'o-', color=color, ms=4)
        for mark in exact:
            top = min(mark.high, axes.get_ylim()[1])
            axes.plot(
                [mark.size] * 2, [mark.low, top], color=color, lw=1, marker=None if math.isfinite(mark.high) else '^', markevery=[1], ms=4
            )
        above = [mark for mark in line if math.isinf(mark.n)]
        below = [mark for mark in line if mark.low == 0]
        axes.plot([mark.size for mark in above], [mark.low for mark in above], '^', color=color, ms=7, mfc='white')
        axes.plot([mark.size for mark in below], [mark.n for mark in below], 'v', color=color, ms=7, mfc='white')


def _name(axes: Axes, lines: Mapping[str, Sequence[Mark]]) -> None:
    """The names of the models where their lines end."""
    low, high = axes.get_ylim()
    ends = {model: line[-1] for model, line in lines.items() if line}
    heights = {model: end.n if math.isfinite(end.n) else end.low for model, end in ends.items()}
    shares = {model: math.log(height / low) / math.log(high / low) for model, height in heights.items()}
    moved = moved_apart(shares, APART / (axes.get_position().height * HEIGHT), 0, 1)
    for color, model in zip(_colors(lines), lines):
        if model in ends:
            axes.annotate(
                model, (ends[model].size, moved[model]), (9, 0), xycoords=('data', 'axes fraction'), textcoords='offset points',
                color=color, va='center', size=9, annotation_clip=False,
            )  # fmt: skip


def _colors(models: Iterable[str]) -> list[str]:
    return [COLORS.get(model, palette) for palette, model in zip(places.COLORS, models)]
