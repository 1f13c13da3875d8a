"""The roofline: how near work is to what the machine can do (Williams, Waterman and Patterson 2009). Pure: rows in, a figure out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cnn_research.report.labels import place_labels
from cnn_research.report.style import BLUE, INK, SOFT, add_axes, label_y, new_figure, short_count, styled


@styled
def roofline(points: Sequence[tuple[str, float, float]], peak: float, bandwidth: float, machine: str) -> Figure:
    """Rate against intensity, both on log scales, under the roof that products and memory make.

    points: name, FLOP per byte, FLOP per second, of which a multiply-add is two. peak: FLOP per second of a matrix product; bandwidth:
    bytes per second of a copy. machine: for the subtitle. Ways that multiply less than they stand for can lie above the roof.
    """
    figure = new_figure(5.2, 'What is reached of what the machine can do', machine)
    axes = add_axes(figure, 0.75, 0.5, 0.3, 1.05)
    label_y(axes, 'multiply-adds as counted, GFLOP/s')
    axes.set_xlabel('FLOP per byte that has to be moved', loc='left')
    axes.set_xscale('log')
    axes.set_yscale('log')
    ridge = peak / bandwidth
    low, high = min(ridge / 8, *(x for _, x, _ in points)) / 1.5, max(ridge * 8, *(x for _, x, _ in points)) * 2
    axes.set_xlim(low, high)
    axes.set_ylim(min(peak / 40, *(y for _, _, y in points)) / 1.5e9, max(peak, *(y for _, _, y in points)) * 1.6 / 1e9)
    axes.plot([low, ridge, high], [low * bandwidth / 1e9, peak / 1e9, peak / 1e9], color=INK, lw=1.4, zorder=1)
    axes.text(high / 1.05, peak / 1e9 * 1.04, f'matrix product, {peak / 1e9:.0f} GFLOP/s', color=SOFT, size=8.5, ha='right', va='bottom')
    axes.annotate(f'copy, {bandwidth / 1e9:.0f} GB/s', (low * 1.6, low * 1.6 * bandwidth / 1e9), (9, -9), textcoords='offset points',
                  color=SOFT, size=8.5)  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))
    x, y = [point[1] for point in points], [point[2] / 1e9 for point in points]
    axes.scatter(x, y, s=46, color=BLUE, edgecolor='white', linewidth=1.2, zorder=3)
    roof = [(at, min(at * bandwidth, peak) / 1e9) for at in np.geomspace(low, high, 120)]  # names keep off it
    place_labels(axes, [point[0] for point in points], x, y, [(at, under, under * 1.02) for at, under in roof])
    return figure


def points(rows: Sequence[dict[str, Any]], threads: int) -> list[tuple[str, float, float]]:
    """What `roofline` draws of the benchmark's rows: this project's own contenders on so many threads, where bytes were counted."""
    return [
        (row['what'], 2 * row['macs'] / row['bytes'], 2 * row['macs'] / row['seconds'])
        for row in rows
        if row['own'] and row['threads'] == threads and row['bytes'] and row['seconds']
    ]
