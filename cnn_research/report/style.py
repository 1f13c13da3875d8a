"""One look for all figures, and figures to markup.

Text is drawn as text, with the title and the axis labels set flush left, so that a page can show it in its own font.
Nothing depends on the user's matplotlib settings or on pyplot's global state.
"""

import base64
import functools
import hashlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's blue and vermilion stay apart for every common kind of colour blindness.
BLUE, ORANGE = '#0072B2', '#D55E00'
INK, SOFT, FAINT, GRID = '#1b2733', '#5b6875', '#b4bdc6', '#e7eaee'

STYLE: dict[str, Any] = {
    'font.family': ['sans-serif'], 'font.sans-serif': ['DejaVu Sans'], 'font.size': 9.0,
    'text.color': INK, 'text.parse_math': False,
    'axes.edgecolor': FAINT, 'axes.labelcolor': SOFT, 'axes.linewidth': 0.8, 'axes.axisbelow': True,
    'axes.spines.top': False, 'axes.spines.right': False, 'axes.spines.left': False,
    'axes.grid': True, 'axes.labelsize': 9.0, 'grid.color': GRID, 'grid.linewidth': 0.8,
    'xtick.color': FAINT, 'ytick.color': FAINT, 'xtick.labelcolor': SOFT, 'ytick.labelcolor': SOFT,
    'xtick.labelsize': 8.5, 'ytick.labelsize': 8.5, 'ytick.major.size': 0, 'xtick.major.size': 3,
    'xtick.minor.size': 0, 'ytick.minor.size': 0,
    'lines.linewidth': 1.8, 'lines.solid_capstyle': 'round', 'figure.dpi': 100.0, 'figure.facecolor': 'white',
    'svg.fonttype': 'none', 'svg.hashsalt': 'cnn_research',
}  # fmt: skip

WIDTH = 9.2
P = ParamSpec('P')
R = TypeVar('R')


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Run a drawing function under `STYLE` over matplotlib's defaults, and leave the global settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.style.context(STYLE, after_reset=True):
            return draw(*args, **kwargs)

    return wrapper


def new_figure(height: float, title: str, subtitle: str) -> Figure:
    """An empty figure, `WIDTH` by `height` inches, with its heading; the axes go below the top 0.75 inches."""
    figure = Figure(figsize=(WIDTH, height))
    figure.text(0.15 / WIDTH, 1 - 0.12 / height, title, size=12, weight='bold', va='top')
    figure.text(0.15 / WIDTH, 1 - 0.38 / height, subtitle, size=9, color=SOFT, va='top')
    return figure


def add_axes(figure: Figure, left: float, bottom: float, right: float, top: float) -> Axes:
    """Axes at the given distances, in inches, from the four edges of the figure."""
    width, height = figure.get_size_inches()
    inside = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    return figure.add_axes(inside)


def label_y(axes: Axes, text: str) -> None:
    """The y label, upright above the axis: it reads without tilting the head."""
    axes.annotate(text, (0, 1), (0, 8), xycoords='axes fraction', textcoords='offset points', color=SOFT, size=9)


def short_count(value: float) -> str:
    """500, 10 k, 2 M, 3 P: a round number in few characters."""
    for size, unit in ((1e15, ' P'), (1e12, ' T'), (1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if value >= size:
            return f'{value / size:g}{unit}'
    return f'{value:g}'


def seeds_text(counts: Sequence[int]) -> str:
    """'n = 5 seeds per arm', 'n = 4 to 5 seeds per arm', and nothing where there is no run."""
    counts = [count for count in counts if count]
    if not counts:
        return 'no finished run'
    low, high = min(counts), max(counts)
    return f'n = {low if low == high else f"{low} to {high}"} seed{"s" * (high > 1)} per arm'


@styled
def figure_svg(figure: Figure) -> Markup:
    """The figure as inline SVG: no XML header, no metadata, and the same text for the same data."""
    text = io.StringIO()
    # None leaves a field out: a date would change every run, the type is a web address.
    figure.savefig(text, format='svg', metadata=dict.fromkeys(('Date', 'Creator', 'Format', 'Type')))
    svg = text.getvalue()
    svg = re.sub(r'<metadata>.*?</metadata>\s*', '', svg[svg.index('<svg') :], flags=re.DOTALL)
    # The style element would speak for the whole page it is put into; the outer element can carry the same rule.
    svg = re.sub(r'<defs>\s*<style.*?</style>\s*</defs>\s*', '', svg, flags=re.DOTALL)
    svg = svg.replace('<svg ', '<svg style="stroke-linejoin: round; stroke-linecap: butt" ', 1)
    return Markup(_own_ids(svg.strip()))


def _own_ids(svg: str) -> str:
    """Drop the ids nothing refers to and give the others a prefix, so that several figures can share a page.

    Only inside tags: the text of a label has its `<` and `>` escaped and is never taken for one.
    """
    prefix = 'f' + hashlib.sha256(svg.encode()).hexdigest()[:8] + '-'
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([\w.-]+)', svg))

    def rename(tag: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]*)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else '', tag[0])
        return re.sub(r'(xlink:href="#|url\(#)', rf'\g<1>{prefix}', text)

    return re.sub(r'<\w[^>]*>', rename, svg)


@styled
def figure_png(figure: Figure, dpi: float = 180.0) -> bytes:
    """The figure as a PNG file, for figures made of many pictures."""
    data = io.BytesIO()
    figure.savefig(data, format='png', dpi=dpi, metadata={'Software': None})
    return data.getvalue()


def figure_png_data_uri(figure: Figure, dpi: float = 180.0) -> str:
    """The same in a data: address."""
    return 'data:image/png;base64,' + base64.b64encode(figure_png(figure, dpi)).decode('ascii')


def figure_img(figure: Figure, alt: str, dpi: float = 180.0) -> Markup:
    """The figure as an <img> element with its picture inside, `alt` escaped."""
    width, height = (round(96 * side) for side in figure.get_size_inches())
    address = figure_png_data_uri(figure, dpi)
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(address, alt, width, height)
