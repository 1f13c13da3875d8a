"""A filter that slides over an image: the figure with one step worked out by hand, and the animation. Pure: arrays in, pictures out."""

import io
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_research.geometry import Geometry
from cnn_research.report.style import BLUE, FAINT, INK, ORANGE, SOFT, WIDTH, label_y, new_figure, styled

COLOURS = 'RdBu_r'
FRAMES = 72
_MOST_NUMBERS = 5  # rows and columns up to which the numbers of a filter are written out
_WINDOW, _TO_COME = tuple(int(ORANGE[i : i + 2], 16) for i in (1, 3, 5)), (235, 235, 235)
_PANEL = 320  # pixels of an animated panel's longer side, about


@styled
def sliding(image: np.ndarray, kernel: np.ndarray, response: np.ndarray, g: Geometry, at: tuple[int, int], title: str) -> Figure:
    """The image, the feature map, and how the number at the position `at` of the map comes about.

    image: [H, W] in [0, 1]. kernel: [kh, kw]. response: [H', W'], what the filter makes of the image. `g`: where the filter lies. The scale
    of colours ends at the number that is worked out.
    """
    wide = max(image.shape[1] / image.shape[0], 0.6)
    side = min(4.3, 3.4 * wide)
    panel = (side, min(side * image.shape[0] / image.shape[1], 6.0))  # a tall picture stands in the middle of it
    height = 0.95 + panel[1] + 2.35
    size = f'{image.shape[0]} x {image.shape[1]} image, {kernel.shape[0]} x {kernel.shape[1]} filter'
    subtitle = f'{size}, stride {g.strides[0]}, padding {g.padding}: a map of {response.shape[0]} x {response.shape[1]}'
    figure = new_figure(height, title, subtitle)
    top = height - 0.95 - panel[1]
    axes = _panel(figure, 0.15, top, *panel, 'image')
    axes.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
    _box(axes, g, at)
    limit = abs(float(response[at])) or 1.0
    mapped = _panel(figure, WIDTH / 2 + 0.15, top, *panel, f'feature map: blue −{limit:.2g}, white 0, red {limit:.2g}')
    rows, columns = response.shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    mapped.imshow(strongest_of_blocks(response), cmap=COLOURS, vmin=-limit, vmax=limit, interpolation='nearest', extent=extent)
    mapped.add_patch(Rectangle((at[1] - 0.5, at[0] - 0.5), 1, 1, fill=False, edgecolor=ORANGE, linewidth=2))
    _by_hand(figure, seen(image, g, at), kernel, float(response[at]))
    return figure


def seen(image: np.ndarray, g: Geometry, at: tuple[int, int]) -> np.ndarray:
    """What the filter sees at a position: [kh, kw] of the image [H, W], with what pads it."""
    (low, high), (left, right) = g.pads
    width = ((low, high), (left, right))
    padded = np.pad(image, width, mode='wrap') if g.padding == 'CIRCULAR' else np.pad(image, width)
    first = [position * stride for position, stride in zip(at, g.strides)]
    return padded[tuple(slice(f, f + (k - 1) * d + 1, d) for f, k, d in zip(first, g.kernel_size, g.dilation))]


def strongest_of_blocks(response: np.ndarray, most: int = 480) -> np.ndarray:
    """A map [H', W'] with no side above `most`, of the largest magnitudes in square blocks: a line one pixel wide stays a line."""
    size = -(-max(response.shape) // most)
    rows, columns = (-(-n // size) for n in response.shape)
    padded = np.pad(response, ((0, rows * size - response.shape[0]), (0, columns * size - response.shape[1])), mode='edge')
    blocks = padded.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(rows, columns, -1)
    return np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)[..., 0]


def _box(axes: Axes, g: Geometry, at: tuple[int, int]) -> None:
    """Where the filter lies on the image."""
    (low, _), (left, _) = g.pads
    top, start = at[0] * g.strides[0] - low, at[1] * g.strides[1] - left
    rows, columns = ((k - 1) * d + 1 for k, d in zip(g.kernel_size, g.dilation))
    axes.add_patch(Rectangle((start - 0.5, top - 0.5), columns, rows, fill=False, edgecolor=ORANGE, linewidth=2, clip_on=False))


def _panel(figure: Figure, left: float, bottom: float, width: float, height: float, name: str) -> Axes:
    """Axes for a picture at a place in inches from the lower left corner, with its name above."""
    whole = figure.get_size_inches()[1]
    axes = figure.add_axes((left / WIDTH, bottom / whole, width / WIDTH, height / whole))
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    figure.text(left / WIDTH, (bottom + height + 0.06) / whole, name, size=9, color=SOFT)
    return axes


def _by_hand(figure: Figure, patch: np.ndarray, kernel: np.ndarray, value: float) -> None:
    """Patch times filter, number by number, and their sum, at the foot of the figure."""
    products, side, gap = patch * kernel, 1.5, 0.62
    left = 0.15
    grids = (('what it sees', patch, 'gray', (0.0, 1.0)), ('filter', kernel, COLOURS, None), ('products', products, COLOURS, None))
    whole = figure.get_size_inches()[1]
    for i, (name, numbers, colours, limits) in enumerate(grids):
        axes = _panel(figure, left + i * (side + gap), 0.2, side, side, name)
        low, high = limits or (-(float(np.abs(numbers).max()) or 1.0), float(np.abs(numbers).max()) or 1.0)
        axes.imshow(numbers, cmap=colours, vmin=low, vmax=high, interpolation='nearest', aspect='auto', alpha=0.85)
        _write(axes, numbers, colours, low, high)
        sign = ('×', '=', 'sum ' + f'{value:.3g}'.replace('-', '−'))[i]
        x = left + (i + 1) * side + i * gap + (gap / 2 if i < 2 else 0.2)
        kind: dict[str, Any] = (
            {'ha': 'center', 'size': 15, 'color': INK} if i < 2 else {'ha': 'left', 'size': 13, 'color': ORANGE, 'weight': 'bold'}
        )
        figure.text(x / WIDTH, (0.2 + side / 2) / whole, sign, va='center', **kind)


def _write(axes: Axes, numbers: np.ndarray, colours: str, low: float, high: float) -> None:
    """The numbers in their cells, where there are few."""
    if max(numbers.shape) > _MOST_NUMBERS:
        return
    for (row, column), number in np.ndenumerate(numbers):
        share = (number - low) / (high - low)
        dark = share < 0.5 if colours == 'gray' else abs(share - 0.5) > 0.38
        axes.text(column, row, _number(number), ha='center', va='center', size=9, color='white' if dark else INK)


def _number(number: float) -> str:
    return f'{number + 0.0:.2g}'.replace('-', '−')  # + 0.0: no minus before zero


def animation(image: np.ndarray, response: np.ndarray, g: Geometry, limit: float) -> bytes:
    """A GIF of the window that slides over the image [H, W] in [0, 1], row by row, while the map [H', W'] fills.

    limit: the response at which the scale of colours ends.
    """
    from PIL import Image

    frames = [Image.fromarray(frame).quantize(palette=_palette(), dither=Image.Dither.NONE) for frame in _frames(image, response, g, limit)]
    data = io.BytesIO()
    pauses = [90] * (len(frames) - 1) + [1500]
    frames[0].save(data, 'GIF', save_all=True, append_images=frames[1:], duration=pauses, loop=0)
    return data.getvalue()


def _palette():
    """All that frames are made of: greys, the colours of maps, and the window's."""
    from PIL import Image

    greys = np.repeat(np.linspace(0, 255, 95)[:, None], 3, axis=1)
    colours = matplotlib.colormaps[COLOURS](np.linspace(0, 1, 159))[:, :3] * 255
    palette = Image.new('P', (1, 1))
    palette.putpalette(np.concatenate([greys, colours, [_WINDOW, _TO_COME]]).round().astype(np.uint8).tobytes())
    return palette


def _stops(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """Where the window is shown: (row, column, first row of its band), all positions of a small map, an even grid of a large one."""
    if rows * columns <= FRAMES:
        return [(row, column, row) for row in range(rows) for column in range(columns)]
    across = min(columns, FRAMES, max(1, round((FRAMES * columns / rows) ** 0.5)))
    down = min(rows, max(1, FRAMES // across))
    ends = [[round((i + 1) * n / count) - 1 for i in range(count)] for n, count in ((rows, down), (columns, across))]
    return [(row, column, 0 if i == 0 else ends[0][i - 1] + 1) for i, row in enumerate(ends[0]) for column in ends[1]]


def _frames(image: np.ndarray, response: np.ndarray, g: Geometry, limit: float) -> Iterator[np.ndarray]:
    """RGB frames uint8: the image with the window at the left, the map so far at the right."""
    rows, columns = response.shape
    coarse = strongest_of_blocks(response)
    coloured = (matplotlib.colormaps[COLOURS](0.5 + coarse / (2 * limit))[..., :3] * 255).astype(np.uint8)
    grey = np.repeat((np.clip(image, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    scale, map_scale = (_PANEL / max(array.shape[:2]) for array in (grey, coloured))
    (low, _), (left, _) = g.pads
    block = rows / coarse.shape[0], columns / coarse.shape[1]
    extent = [(k - 1) * d + 1 for k, d in zip(g.kernel_size, g.dilation)]
    small = _scaled(grey, scale)
    for row, column, first in _stops(rows, columns):
        part = np.full_like(coloured, _TO_COME)
        start, y, x = int(first / block[0]), int(row / block[0]), int(column / block[1])
        part[:start], part[start : y + 1, : x + 1] = coloured[:start], coloured[start : y + 1, : x + 1]
        shown = small.copy()
        corner = row * g.strides[0] - low, column * g.strides[1] - left
        _outline(shown, *(round(c * scale) for c in corner), *(max(12, round(e * scale)) for e in extent))
        yield _beside(shown, _scaled(part, map_scale))


def _scaled(picture: np.ndarray, scale: float) -> np.ndarray:
    """Nearest neighbours."""
    rows, columns = (np.minimum((np.arange(max(1, round(n * scale))) / scale).astype(int), n - 1) for n in picture.shape[:2])
    return picture[np.ix_(rows, columns)].copy()


def _outline(picture: np.ndarray, top: int, left: int, height: int, width: int) -> None:
    """A frame two pixels wide, cut at the border of the picture."""
    rows, columns = (np.arange(start, start + size) for start, size in ((top, height), (left, width)))
    rows, columns = rows[(rows >= 0) & (rows < picture.shape[0])], columns[(columns >= 0) & (columns < picture.shape[1])]
    for y in (top, top + 1, top + height - 2, top + height - 1):
        if 0 <= y < picture.shape[0]:
            picture[y, columns] = _WINDOW
    for x in (left, left + 1, left + width - 2, left + width - 1):
        if 0 <= x < picture.shape[1]:
            picture[rows, x] = _WINDOW


def _beside(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two pictures side by side on white, with a margin."""
    height, gap = max(first.shape[0], second.shape[0]), 16
    sheet = np.full((height + 2 * gap, first.shape[1] + second.shape[1] + 3 * gap, 3), 255, np.uint8)
    sheet[gap : gap + first.shape[0], gap : gap + first.shape[1]] = first
    sheet[gap : gap + second.shape[0], 2 * gap + first.shape[1] : 2 * gap + first.shape[1] + second.shape[1]] = second
    return sheet


@styled
def anywhere(images: np.ndarray, places: np.ndarray, lines: dict[str, np.ndarray], learned_at: int, subtitle: str) -> Figure:
    """The same edge at several places, and what units that learned it at one of them say of each.

    images: [places, H, W] in [0, 1], one example per place. places: [places] columns. lines: name -> accuracy [places] in [0, 1], first the
    filter, then the dense unit. learned_at: index of the place where both learned.
    """
    figure = new_figure(4.9, 'The same edge at other places', subtitle)
    whole, left, right = 4.9, 0.75, 2.2
    step = (WIDTH - left - right) / len(places)
    size = min(0.9, step - 0.08)
    axes = figure.add_axes((left / WIDTH, 0.55 / whole, (WIDTH - left - right) / WIDTH, 2.35 / whole))
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylim(0.4, 1.03)
    axes.set_xticks(range(len(places)), [str(place) for place in places])
    axes.set_yticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], ['50 %', '60 %', '70 %', '80 %', '90 %', '100 %'])
    axes.set_xlabel('column of the edge', loc='left')
    label_y(axes, 'accuracy')
    axes.axvspan(learned_at - 0.5, learned_at + 0.5, color=FAINT, alpha=0.25, lw=0)
    axes.text(learned_at, 0.42, 'learned here', size=8.5, color=SOFT, ha='center')
    for colour, (name, values) in zip((BLUE, ORANGE), lines.items()):
        axes.plot(range(len(places)), values, color=colour, marker='o', ms=5)
        axes.annotate(
            name, (len(places) - 1, values[-1]), (10, 0), textcoords='offset points', color=colour, va='center', annotation_clip=False
        )
    for i, image in enumerate(images):
        shown = _panel(figure, left + i * step + (step - size) / 2, 3.1, size, size, '')
        shown.imshow(image, cmap='gray', vmin=0, vmax=1, interpolation='nearest')
    return figure
