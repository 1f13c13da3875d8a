"""Accuracy by place: curves in a few panels, and maps of the image with the training positions outlined."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter

from cnn_research.report.labels import APART, moved_apart
from cnn_research.report.style import BLUE, INK, ORANGE, SOFT, WIDTH, add_axes, new_figure, styled

COLORS = (BLUE, ORANGE, '#009E73', '#CC79A7', '#B8860B', '#56B4E9', INK, '#8C564B')  # Okabe and Ito's, the yellow one darker, and a brown
PANEL, MAP = 2.2, 1.5  # inches

Curves = Mapping[str, Sequence[float]]  # name -> a share in [0, 1] for every x, NaN where there is none


@styled
def curve_panels(
    title: str, subtitle: str, x: Sequence[float], panels: Mapping[str, Curves], x_label: str, chance: float, *, log: bool = False
) -> Figure:
    """Accuracy against x, a panel per entry of `panels`, two beside each other, each line with its name at its end.

    x: increasing, the same for all. chance: the share that guessing gets. log: whether x has a log scale.
    """
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    height = 0.95 + rows * (PANEL + 0.75)
    figure = new_figure(height, title, subtitle)
    left, gap, names = 0.6, 0.35, 1.35
    width = (WIDTH - left - 0.1 - (columns - 1) * gap) / columns - names
    for i, (name, curves) in enumerate(panels.items()):
        at = left + i % columns * (width + names + gap)
        top = 1.05 + i // columns * (PANEL + 0.75)
        axes = add_axes(figure, at, height - top - PANEL, WIDTH - at - width, top)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.2, 0.4, 0.6, 0.8, 1]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{100 * value:g} %'))
        if log:
            axes.set_xscale('log')
            axes.minorticks_off()
        axes.xaxis.set_major_locator(FixedLocator(list(x)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axes.set_xlabel(x_label, loc='left')
        axes.annotate(name, (0, 1), (0, 6), xycoords='axes fraction', textcoords='offset points', weight='bold', color=INK)
        axes.axhline(chance, color=SOFT, lw=1, ls=(0, (3, 3)), zorder=1)
        _lines(axes, x, curves)
    return figure


def _lines(axes: Axes, x: Sequence[float], curves: Curves) -> None:
    """The lines, and their names at the right, moved apart where lines end together."""
    lowest, highest = 0.03, 1.0
    step = APART / PANEL * 1.02
    ends = {name: [y for y in values if not math.isnan(y)][-1] for name, values in curves.items()}
    heights = moved_apart(ends, step, lowest, highest)
    if len(curves) > len(COLORS):
        raise ValueError(f'a panel has room for {len(COLORS)} lines, not for {len(curves)}')
    for color, name in zip(COLORS, curves):
        axes.plot(x, curves[name], color=color, marker='o', ms=3.5, clip_on=False)
        axes.annotate(
            name, (1, heights[name]), (10, 0), xycoords=('axes fraction', 'data'), textcoords='offset points',
            color=color, va='center', size=8.5, annotation_clip=False,
        )  # fmt: skip


@styled
def position_maps(
    title: str, subtitle: str, maps: Mapping[str, np.ndarray], trained: Mapping[str, np.ndarray], chance: float, columns: int = 5
) -> Figure:
    """A map of accuracy by position for each name: chance is white, 1 dark blue; training positions are outlined.

    maps: name -> [rows, columns] in [0, 1]. trained: name -> bool [rows, columns].
    """
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    height = 0.95 + rows * (MAP + 0.5)
    figure = new_figure(height, title, subtitle)
    step = (WIDTH - 0.35) / columns
    side = min(MAP, step - 0.15)
    for i, (name, shares) in enumerate(maps.items()):
        left, top = 0.2 + i % columns * step, 1.05 + i // columns * (MAP + 0.5)
        axes = add_axes(figure, left, height - top - side, WIDTH - left - side, top)
        axes.imshow(shares, cmap='Blues', vmin=chance, vmax=1.0, interpolation='nearest')
        for row, column in np.argwhere(trained[name]):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=ORANGE, lw=1.1, clip_on=False))
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.annotate(name, (0, 1), (0, 5), xycoords='axes fraction', textcoords='offset points', weight='bold', color=INK, size=9)
        mean = f'{100 * shares.mean():.0f} %'
        axes.annotate(mean, (1, 1), (0, 5), xycoords='axes fraction', textcoords='offset points', color=BLUE, size=8.5, ha='right')
    return figure
