"""Names next to dots, none over another."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnn_research.report.style import FAINT, INK

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels

SIZE = 9.0
GAP = 7.0  # points between a dot's centre and its name
LINE = 12.0  # points from one line of names to the next
APART = 0.155  # inches between the names of a column


def moved_apart(heights: Mapping[str, float], step: float, lowest: float, highest: float) -> dict[str, float]:
    """The heights of names in a column, in their order, at least a step from each other and, if there is room, within these bounds."""
    moved: dict[str, float] = {}
    least = lowest
    for name in sorted(heights, key=heights.__getitem__):
        moved[name] = max(heights[name], least)
        least = moved[name] + step
    most = highest
    for name in reversed(moved):  # push down what went over the top, and what stands in the way
        moved[name] = min(moved[name], most)
        most = moved[name] - step
    return moved


def place_labels(
    axes: Axes,
    names: Sequence[str],
    x: Sequence[float],
    y: Sequence[float],
    bars: Sequence[tuple[float, float, float]] = (),
) -> None:
    """Write each name beside its dot, moved up or down until it is clear of other names, dots and bars.

    names, x, y: [dots]; bars: (x, lowest y, highest y) of vertical bars; all in data units. Set the limits and the
    scales first: distances are those on the page. A name that had to move gets a thin line to its dot. From the top
    dot down, each name takes the place that costs least among the names placed so far, right of its dot before left;
    in two more rounds each may move again, now that it knows all the others.
    """
    points = axes.figure.dpi / 72
    dots = axes.transData.transform(np.column_stack([x, y]))
    # Wider than a dot: a name that ended right beside another dot would be read as that dot's.
    fixed = [_box(px, py, 26 * points, 11 * points, 'center') for px, py in dots]
    for at, low, high in bars:
        (px, low), (_, high) = axes.transData.transform([(at, low), (at, high)])
        fixed.append(_box(px, (low + high) / 2, 4 * points, high - low, 'center'))
    widths = [_text_width(axes, name) for name in names]
    order = sorted(range(len(names)), key=lambda index: (-dots[index][1], dots[index][0], index))
    chosen: dict[int, tuple[str, float]] = {}
    boxes: dict[int, list[Box]] = {}
    for _, index in itertools.product(range(3), order):
        others = [box for at, box in enumerate(fixed) if at != index]
        others += [box for at, taken in boxes.items() if at != index for box in taken]
        best = math.inf
        for cost, side, lift in _places():
            if cost >= best:
                continue
            tried = _boxes(dots[index], widths[index], side, lift, points)
            # A line across something is untidy, a name across something cannot be read.
            hits = [sum(_overlap(box, other) for other in others) for box in tried]
            cost += 30 * _outside(tried[0], axes) + hits[0] + 0.02 * sum(hits[1:])
            if cost < best:
                best, chosen[index], boxes[index] = cost, (side, lift), tried
    for index, (side, lift) in sorted(chosen.items()):
        _write(axes, names[index], (x[index], y[index]), side, lift)


def _boxes(dot: np.ndarray, width: float, side: str, lift: float, points: float) -> list[Box]:
    """What a name takes up at a place, in pixels: its box, then small boxes along its line, clear of its own dot."""
    x = dot[0] + (GAP if side == 'left' else -GAP) * points
    boxes = [_box(x, dot[1] + lift * points, width, 0.92 * LINE * points, side)]
    if abs(lift) > LINE / 2:
        for share in np.linspace(0.45, 0.9, 8):
            boxes.append(_box(dot[0] + share * (x - dot[0]), dot[1] + share * lift * points, 2, 2, 'center'))
    return boxes


def _outside(box: Box, axes: Axes) -> float:
    """How many pixels a box reaches out of the axes; a little to the right is free, for the figure has a margin."""
    frame = axes.get_window_extent()
    wide = max(frame.x0 - box[0], 0) + max(box[2] - frame.x1 - 20, 0)
    return wide + max(frame.y0 - box[1], 0) + max(box[3] - frame.y1, 0)


def _places() -> list[tuple[float, str, float]]:
    """(cost, text alignment, lift in points) of the places tried, the most welcome first."""
    lifts = [sign * step * LINE / 2 for step in range(13) for sign in (1, -1)]
    return [(abs(lift) + 5 * (side == 'right'), side, lift) for side in ('left', 'right') for lift in lifts]


def _text_width(axes: Axes, text: str) -> float:
    """Width in pixels, measured on a figure of the same resolution so that nothing is left behind."""
    figure = Figure(dpi=axes.figure.dpi)
    return figure.text(0, 0, text, size=SIZE).get_window_extent(FigureCanvasAgg(figure).get_renderer()).width


def _box(x: float, y: float, width: float, height: float, side: str) -> Box:
    """x0, y0, x1, y1 of a box whose `side` (or centre) is at x, and whose middle is at y."""
    x0 = {'left': x, 'center': x - width / 2, 'right': x - width}[side]
    return x0, y - height / 2, x0 + width, y + height / 2


def _overlap(a: Box, b: Box) -> float:
    """Zero for boxes apart; for boxes that meet, more than any distance costs, and more the more they share."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return 1000 + wide * high if wide > 0 and high > 0 else 0.0


def _write(axes: Axes, name: str, dot: tuple[float, float], side: str, lift: float) -> None:
    """The name, and for one that moved more than half a line a thin line from the dot to it."""
    shift = GAP if side == 'left' else -GAP
    end = (0.0 if shift > 0 else 1.0, 0.5)
    line = {'arrowstyle': '-', 'color': FAINT, 'lw': 0.8, 'shrinkA': 0, 'shrinkB': 2, 'relpos': end}
    axes.annotate(
        name, dot, (shift, lift), textcoords='offset points', ha=side, va='center_baseline', size=SIZE, color=INK,
        arrowprops=line if abs(lift) > LINE / 2 else None, annotation_clip=False,
    )  # fmt: skip
