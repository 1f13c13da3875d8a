"""The figure of what a training step costs against image size. Pure: plain data in, a matplotlib `Figure` out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from cnn_research.cost import human_bytes
from cnn_research.report.places import COLORS
from cnn_research.report.style import FAINT, INK, SOFT, WIDTH, add_axes, new_figure, styled

Point = Mapping[str, Any]


@styled
def step_costs(points: Sequence[Point], networks: Sequence[str], memory: int) -> Figure:
    """Seconds of a step and peak memory against the number of pixels, log scales, a line per network.

    points: network, height, width, status, seconds, peak_bytes, predicted_bytes, by rising size. A network that is refused at a size
    ends in a cross at what it would need. memory: of the machine, in bytes.
    """
    subtitle = 'median over steps, and the most that a process took; ×: refused, at the memory that it would need by counting'
    figure = new_figure(4.6, 'What a training step takes', subtitle)
    for i, (title, key) in enumerate((('seconds per step', 'seconds'), ('peak memory', 'peak_bytes'))):
        axes = add_axes(figure, 0.75 + i * 4.5, 0.55, WIDTH - 3.5 - i * 4.5, 1.05)
        axes.set_xscale('log')
        axes.set_yscale('log')
        sizes = sorted({(point['height'] * point['width'], f'{point["width"]} x {point["height"]}') for point in points})
        axes.xaxis.set_major_locator(FixedLocator([pixels for pixels, _ in sizes]))
        axes.set_xticklabels([name for _, name in sizes], rotation=35, ha='right', size=7.5)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(numticks=12))
        axes.yaxis.set_minor_locator(NullLocator())
        shown = human_bytes if key == 'peak_bytes' else '{:g} s'.format
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, shown=shown: shown(value)))
        axes.annotate(title, (0, 1), (0, 6), xycoords='axes fraction', textcoords='offset points', weight='bold', color=INK)
        if key == 'peak_bytes':
            axes.axhline(memory, color=FAINT, lw=1, ls=(0, (2, 2)))
            axes.annotate(f'this machine, {human_bytes(memory)}', (0, memory), (2, 3), xycoords=('axes fraction', 'data'),
                          textcoords='offset points', color=SOFT, size=8)  # fmt: skip
        _lines(axes, points, networks, key)
    return figure


def _lines(axes: Axes, points: Sequence[Point], networks: Sequence[str], key: str) -> None:
    ends = {}
    for color, name in zip(COLORS, networks):
        done = [(p['height'] * p['width'], p[key]) for p in points if p['network'] == name and p['status'] == 'ok']
        refused = [(p['height'] * p['width'], p['predicted_bytes']) for p in points if p['network'] == name and p['status'] == 'refused']
        if done:
            axes.plot(*zip(*done), color=color, marker='o', ms=3.5)
            ends[name] = (color, done[-1])
        if refused and key == 'peak_bytes':
            axes.plot(*zip(*([done[-1]] if done else []), refused[0]), color=color, lw=1, ls=(0, (3, 2)))
            axes.plot(*refused[0], 'x', color=color, ms=6, mew=1.6)
            ends[name] = (color, refused[0])
    low, high = (math.log(value) for value in axes.get_ylim())
    step, last = 0.058 * (high - low), -math.inf
    for name, (color, (pixels, value)) in sorted(ends.items(), key=lambda item: item[1][1][1]):
        last = max(math.log(value), last + step)
        axes.annotate(
            name, (pixels, math.exp(last)), (8, 0), textcoords='offset points', color=color, va='center', size=8.5, annotation_clip=False
        )
