"""The figure of weights against image size. Pure: plain data in, a matplotlib `Figure` out."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from cnn_research.report.style import BLUE, FAINT, INK, ORANGE, SOFT, add_axes, label_y, new_figure, short_count, styled

# Bytes of memory: a usual laptop, one NVIDIA H200, and the 256 chips of a TPU v5e pod with 16 GB each.
MEMORIES = {'laptop, 16 GB': 16 * 10**9, 'H200, 141 GB': 141 * 10**9, 'TPU v5e pod, 4.1 TB': 256 * 16 * 10**9}
_FLOAT32 = 4
_COLORS = (BLUE, ORANGE, '#009E73', '#CC79A7', '#56B4E9', '#E69F00', INK, SOFT)


@styled
def weights_against_side(lines: Mapping[str, Sequence[tuple[int, int]]], layer: str) -> Figure:
    """Weights of one layer against the side of a square image, both on log scales, a labelled line per scheme.

    lines: name -> (side in pixels, weights), by rising side. layer: what the layer is, for the subtitle. Dotted lines are what fits
    into some memories as float32, weights alone.
    """
    figure = new_figure(5.6, 'Weights of one layer against the size of the image', layer)
    axes = add_axes(figure, 0.75, 0.5, 2.0, 1.05)
    label_y(axes, 'weights')
    axes.set_xlabel('side of the image in pixels', loc='left')
    axes.set_xscale('log')
    axes.set_yscale('log')
    sides = [side for side, _ in next(iter(lines.values()))]
    largest = float(max(count for points in lines.values() for _, count in points))
    axes.set_xlim(sides[0], sides[-1])
    axes.set_ylim(min(count for points in lines.values() for _, count in points) / 3, largest * 5)
    axes.xaxis.set_major_locator(FixedLocator(sides[:: max(1, len(sides) // 8)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
    axes.yaxis.set_major_locator(LogLocator(numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    for name, size in MEMORIES.items():
        axes.axhline(size / _FLOAT32, color=FAINT, lw=1, ls=(0, (2, 2)), zorder=1)
        axes.text(sides[0] * 1.08, size / _FLOAT32 * 1.3, name, color=SOFT, size=8)
    label = 0.0
    for color, (name, points) in zip(_COLORS, sorted(lines.items(), key=lambda line: line[1][-1][1])):
        axes.plot([side for side, _ in points], [float(count) for _, count in points], color=color)  # they may exceed 64 bits
        label = max(float(points[-1][1]), 3.2 * label)  # at the right end, moved up where it would lie on the one below
        text = axes.annotate(name, (sides[-1], label), (8, 0), textcoords='offset points', color=color, va='center', size=9)
        text.set_annotation_clip(False)
    return figure
