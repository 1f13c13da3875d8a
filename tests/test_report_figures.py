"""The figures: what they say, that they can be read, and that they are the same every time."""

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from report_fakes import SIX, TWELVE, every_figure, fake_example, fake_history, fake_rows, summary_of

from cnn_research.report import figures
from cnn_research.report.labels import moved_apart
from cnn_research.report.table import summarise


def svg_texts(svg):
    """The text labels of an SVG, which must be well-formed XML."""
    return [''.join(node.itertext()) for node in ElementTree.fromstring(svg).iter('{http://www.w3.org/2000/svg}text')]


@pytest.mark.parametrize('arms', [SIX, TWELVE])
def test_every_figure_names_every_arm_and_says_n(arms):
    for figure in every_figure(arms):
        texts = svg_texts(figures.figure_svg(figure))
        for arm in arms:
            assert any(text == arm or text.startswith(f'{arm} (n = ') for text in texts), arm
        assert any('n = 4 to 5 seeds' in text for text in texts)


@pytest.mark.parametrize('arms', [SIX, TWELVE])
def test_labels_of_the_weights_figure_do_not_overlap_nor_leave_the_figure(arms):
    figure = figures.accuracy_against_weights(summary_of(arms, lone=list(arms)[-1]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    labels = [text for text in figure.axes[0].texts if text.get_text().split(' ')[0] in arms]
    boxes = [Text.get_window_extent(label, renderer) for label in labels]
    assert len(boxes) == len(arms)
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert not any(box.shrunk(0.98, 0.8).overlaps(other.shrunk(0.98, 0.8)) for other in boxes[index + 1 :])


def test_the_same_data_gives_the_same_svg_and_ids_are_not_shared():
    first, second = every_figure(SIX), every_figure(SIX)
    svgs = [figures.figure_svg(figure) for figure in first]
    assert svgs == [figures.figure_svg(figure) for figure in second]
    ids = [name for svg in svgs for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(ids) == len(set(ids)) > 0
    for svg in svgs:
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) == set(re.findall(r' id="([^"]+)"', svg))


def test_drawing_leaves_matplotlib_settings_alone():
    before = dict(matplotlib.rcParams)
    every_figure(SIX)
    assert dict(matplotlib.rcParams) == before


def test_figures_take_one_run_per_arm_no_run_and_unknown_measurements():
    one = {'a $x_1$': (0, 1.0, None)}
    assert 'n = 1 seed per arm' in figures.figure_svg(figures.learning_curves(fake_history(fake_rows(one, 1), 1), list(one)))
    nothing = summarise([], ['a', 'b'])
    assert 'no finished run: a, b' in figures.figure_svg(figures.accuracy_against_weights(nothing))
    assert 'no finished run' in figures.figure_svg(figures.learning_curves([], ['a', 'b']))
    with pytest.raises(ValueError, match='unseen'):
        figures.seen_against_unseen(summary_of(TWELVE), 0.1)
    with pytest.raises(ValueError, match='more than one run'):
        figures.learning_curves([*fake_history(fake_rows(SIX)), *fake_history(fake_rows(SIX))], list(SIX))


def test_a_run_that_diverged_at_once_is_drawn_as_missing():
    history = [row | {'train_loss': None, 'validation_loss': None} for row in fake_history(fake_rows(SIX))]
    assert svg_texts(figures.figure_svg(figures.learning_curves(history, list(SIX)))).count('no finished run') == 6


def test_filters_show_at_most_eight_and_say_so():
    figure = figures.first_filters([fake_example(count=16), fake_example('rgb', 2, 5, 3)])
    texts = svg_texts(figures.figure_svg(figure))
    assert '8 of 16 filters; the same 3 × 3 filter at every position' in texts
    image = figures.figure_img(figure, 'a "quoted" <alt>', dpi=40)
    assert image.startswith('<img src="data:image/png;base64,')
    assert 'a &#34;quoted&#34; &lt;alt&gt;' in image


def test_diverging_colours_are_symmetric_about_zero():
    figure = figures.first_filters([fake_example()])
    limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images][1:]
    assert len(limits) == 16
    assert all(low == -high for low, high in limits)


@pytest.mark.parametrize('broken', [{'filters': np.zeros((2, 3, 3, 2))}, {'image': np.zeros((9, 9))}, {'maps': np.zeros((1, 9, 9))}])
def test_filter_examples_with_wrong_shapes_are_refused(broken):
    good = fake_example(count=2)
    fields = {'arm': 'a', 'filters': good.filters, 'image': good.image, 'maps': good.maps, 'note': ''} | broken
    with pytest.raises(ValueError, match='must be'):
        figures.FilterExample(**fields)


def test_a_loss_axis_of_less_than_a_decade_has_plain_numbers():
    history = [{**row, 'train_loss': 0.2 + 0.1 / row['epoch']} for row in fake_history(fake_rows(SIX))]
    texts = svg_texts(figures.figure_svg(figures.learning_curves(history, list(SIX), 'train_loss')))
    assert '0.2' in texts and not [text for text in texts if '{' in text or '$' in text]


@given(st.dictionaries(st.text(min_size=1), st.floats(-0.5, 1.5), min_size=1, max_size=8), st.floats(0.01, 0.12))
def test_names_of_a_column_keep_their_order_and_their_distance(heights, step):
    moved = moved_apart(heights, step, 0, 1)
    order = sorted(heights, key=heights.__getitem__)
    assert sorted(moved, key=moved.__getitem__) == order
    assert all(moved[above] - moved[below] > 0.999 * step for below, above in itertools.pairwise(order))
    assert min(moved.values()) >= -1e-9 and max(moved.values()) <= 1 + 1e-9
