"""What the first layer learned: filters, and what each makes of a sample image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from cnn_research.report.style import FAINT, INK, SOFT, WIDTH, new_figure, styled

MOST = 8  # filters shown per arm
BLOCK = 2.5  # inches of height per arm
CELL, STEP = 0.7, 0.8  # inches: a picture, and from one picture to the next
COLOURS = 'RdBu_r'


@dataclass(frozen=True)
class FilterExample:
    """One arm's first layer and one image.

    filters: [F, kh, kw, C] weights, C = 1 (grey) or 3 (RGB). image: [H, W, C], values in [0, 1].
    maps: [F, H', W'], the response of each filter to the image. note: what a filter is in this arm, in one line,
    such as 'the same 3 x 3 filter at every position'.
    """

    arm: str
    filters: np.ndarray
    image: np.ndarray
    maps: np.ndarray
    note: str

    def __post_init__(self) -> None:
        filters, image, maps = np.shape(self.filters), np.shape(self.image), np.shape(self.maps)
        if len(filters) != 4 or filters[3] not in (1, 3) or 0 in filters:
            raise ValueError(f'filters must be [F, kh, kw, 1 or 3], not {filters}')
        if len(image) != 3 or image[2] != filters[3]:
            raise ValueError(f'the image must be [H, W, {filters[3]}], not {image}')
        if len(maps) != 3 or maps[0] != filters[0]:
            raise ValueError(f'maps must be [{filters[0]}, H, W], not {maps}')


@styled
def first_filters(arms: Sequence[FilterExample]) -> Figure:
    """A block per arm: the image, up to eight filters, and under each filter its map of the image.

    Blue is negative, white zero, red positive; within a block all filters share one scale and all maps another, so a
    filter that does nothing looks it. Filters on RGB images are shown in RGB around mid grey instead.
    """
    height = 0.75 + BLOCK * max(len(arms), 1)
    colour = any(np.shape(example.filters)[3] == 3 for example in arms)
    rule = 'filters in RGB, grey is zero; maps' if colour else 'filters and maps'
    subtitle = f'{rule}: blue is negative, white zero, red positive; the numbers give the ends of each scale'
    figure = new_figure(height, 'First-layer filters and what they make of an image', subtitle)
    for block, example in enumerate(arms):
        _draw_block(figure, example, height - 0.75 - block * BLOCK)
    return figure


def _draw_block(figure: Figure, example: FilterExample, top: float) -> None:
    """Draw one arm below `top` (inches from the lower edge)."""
    count = len(example.filters)
    shown = min(count, MOST)
    where = f'{shown} of {count} filters; ' if shown < count else ''
    height = figure.get_size_inches()[1]
    figure.text(0.15 / WIDTH, (top - 0.12) / height, example.arm, size=10.5, weight='bold', va='top')
    figure.text(0.15 / WIDTH, (top - 0.33) / height, where + example.note, size=9, color=SOFT, va='top')
    upper, lower = top - 0.68 - CELL, top - 0.68 - CELL - STEP
    image = _picture(figure, 0.15, lower, CELL + STEP, example.image)
    image.set_clim(0, 1)
    image.set_cmap('gray')
    limits = [_limit(example.filters[:shown]), _limit(example.maps[:shown])]
    left = 2.15
    for index in range(shown):
        drawn = [
            _picture(figure, left + index * STEP, upper, CELL, _rgb(example.filters[index], limits[0])),
            _picture(figure, left + index * STEP, lower, CELL, example.maps[index]),
        ]
        for picture, limit in zip(drawn, limits, strict=True):
            picture.set_clim(-limit, limit)
            picture.set_cmap(COLOURS)
    if np.shape(example.filters)[3] == 1:
        _bar(figure, drawn[0], left + shown * STEP, upper, limits[0])
    _bar(figure, drawn[1], left + shown * STEP, lower, limits[1])
    for y, name in ((upper, 'filter'), (lower, 'map')):
        figure.text((left - 0.08) / WIDTH, (y + CELL / 2) / height, name, size=8.5, color=SOFT, ha='right', va='center')


def _limit(values: np.ndarray) -> float:
    """The largest magnitude, which becomes the end of a scale around zero; 1 where everything is zero."""
    return float(np.abs(values).max()) or 1.0


def _rgb(weights: np.ndarray, limit: float) -> np.ndarray:
    """[kh, kw, 1] as [kh, kw]; [kh, kw, 3] as colours, zero at mid grey and `limit` at full strength."""
    return weights[..., 0] if weights.shape[-1] == 1 else np.clip(0.5 + weights / (2 * limit), 0, 1)


def _picture(figure: Figure, left: float, bottom: float, size: float, values: np.ndarray) -> AxesImage:
    axes = _square(figure, left, bottom, size, size)
    values = np.asarray(values, dtype=float)
    values = values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT, linewidth=0.6)
    return axes.imshow(values, interpolation='nearest')


def _square(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes without ticks at a place in inches from the lower left corner."""
    whole = figure.get_size_inches()[1]
    axes = figure.add_axes((left / WIDTH, bottom / whole, width / WIDTH, height / whole))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    return axes


def _bar(figure: Figure, picture: AxesImage, left: float, bottom: float, limit: float) -> None:
    """A slim scale from -limit to +limit beside a row."""
    bar = Colorbar(_square(figure, left, bottom, 0.07, CELL), picture, ticks=[])
    bar.outline.set_visible(False)
    for share, text in ((1.0, f'+{limit:.2g}'), (0.5, '0'), (0.0, f'−{limit:.2g}')):
        place: dict[str, Any] = {'va': {1.0: 'top', 0.5: 'center', 0.0: 'bottom'}[share], 'transform': bar.ax.transAxes}
        bar.ax.text(1.7, share, text, size=8, color=INK if share != 0.5 else SOFT, **place)
