"""Positions by name on a canvas, images placed there, and where and what a problem draws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import config, errors, images, problem
from cnn_research.data import Dataset, canvas

SIDES = st.integers(1, 9)
some = settings(max_examples=60, deadline=None, derandomize=True)


def named(name, image=(8, 8), size=(16, 16)):
    """The positions of a set as tuples."""
    return [tuple(position) for position in canvas.positions(name, image, size).tolist()]


@pytest.mark.parametrize(
    ('name', 'rows', 'columns'),
    [
        ('left', range(9), range(4)), ('right', range(9), range(5, 9)), ('top', range(4), range(9)),
        ('bottom', range(5, 9), range(9)), ('center', [4], [4]), ('any', range(9), range(9)),
    ],
)  # fmt: skip
def test_the_sets_of_8x8_on_16x16(name, rows, columns):
    assert named(name) == list(itertools.product(rows, columns))
    assert canvas.positions(name, (8, 8), (16, 16)).dtype == np.int32


def test_every_set_that_a_configuration_names_is_known():
    for name in config.POSITIONS:
        assert named(name)


@some
@given(SIDES, SIDES, st.integers(2, 9), st.integers(2, 9))
def test_opposite_sides_are_disjoint_mirror_images(height, width, rows, columns):
    image, size = (height, width), (height + rows - 1, width + columns - 1)
    everywhere = set(itertools.product(range(rows), range(columns)))
    sides = {name: set(named(name, image, size)) for name in ('left', 'right', 'top', 'bottom')}
    assert set(named('any', image, size)) == everywhere
    assert sides['right'] == {(row, columns - 1 - column) for row, column in sides['left']}
    assert sides['bottom'] == {(rows - 1 - row, column) for row, column in sides['top']}
    assert len(sides['left']) == rows * (columns // 2) and len(sides['top']) == (rows // 2) * columns
    assert not sides['left'] & sides['right'] and not sides['top'] & sides['bottom']
    assert set(named('center', image, size)) <= everywhere


def test_a_canvas_without_room_to_the_side_has_no_sides():
    for name in ('left', 'right'):
        with pytest.raises(errors.InputError, match=f'no {name} positions for 8x8 images on a 16x8 canvas: give'):
            canvas.positions(name, (8, 8), (16, 8))
    for name in ('top', 'bottom'):
        with pytest.raises(errors.InputError, match=f'no {name} positions for 8x8 images on a 8x16 canvas'):
            canvas.positions(name, (8, 8), (8, 16))
    assert named('any', (8, 8), (8, 8)) == named('center', (8, 8), (8, 8)) == [(0, 0)]


@pytest.mark.parametrize('size', [(7, 16), (16, 7)], ids=str)
@pytest.mark.parametrize('name', config.POSITIONS)
def test_a_canvas_smaller_than_the_images_is_refused(name, size):
    with pytest.raises(errors.InputError, match=f'canvas {size[0]}x{size[1]} is smaller than the images of 8x8'):
        canvas.positions(name, (8, 8), size)


def test_without_leaves_out_the_others_and_keeps_the_order():
    some, others = np.array([[3, 1], [0, 2], [1, 3], [2, 0]], np.int32), np.array([[1, 3], [3, 1], [9, 9]], np.int32)
    assert canvas.without(some, others).tolist() == [[0, 2], [2, 0]]
    empty = canvas.without(some, some)
    assert empty.shape == (0, 2) and empty.dtype == np.int32


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from([(2, 3, 1), (3, 2, 3)]), st.randoms(use_true_random=False))
def test_place_puts_exact_pixels_and_leaves_black_elsewhere(image, random):
    size, rng = (5, 6), np.random.default_rng(random.getrandbits(32))
    pictures = rng.integers(1, 256, (4, *image), np.uint8)
    corners = np.array([[random.randint(0, 5 - image[0]), random.randint(0, 6 - image[1])] for _ in pictures], np.int32)
    expected = np.zeros((4, *size, image[2]), np.uint8)
    for picture, pixels, (row, column) in zip(expected, pictures, corners):
        picture[row : row + image[0], column : column + image[1]] = pixels
    placed = images.place(pictures, corners, size)
    assert placed.dtype == np.uint8
    np.testing.assert_array_equal(placed, expected)


def numbered(count=60):
    """A data set whose n-th training image is n all over."""
    images, labels = np.full((count, 4, 4, 1), 0, np.uint8), np.zeros(count, np.int32)
    images += np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Dataset('numbered', images, labels, images[:7], labels[:7], images[:50], labels[:50], ('a', 'b'))


def arrays_of(seed=0, **fields):
    """The arrays of a problem with these data."""
    c = config.Config(config.ModelConfig(pools=(1, 1)), config.DataConfig('numbered', **fields))
    return problem.arrays(problem.make(c, numbered()), numbered(), seed)


def drawn(seed, train_size):
    """The numbers of the training images that a seed draws."""
    return arrays_of(seed, train_size=train_size).train.images[:][:, 0, 0, 0].tolist()


def test_a_seed_draws_training_images_and_fewer_of_them_are_among_the_more():
    draws = [set(drawn(3, size)) for size in (1, 10, 30, 59, 60)]
    assert [len(draw) for draw in draws] == [1, 10, 30, 59, 60]
    for fewer, more in itertools.pairwise(draws):
        assert fewer < more
    assert drawn(3, 30) == drawn(3, 30) != drawn(4, 30)


@pytest.mark.parametrize('unseen', ['right', 'any'])
def test_no_image_is_tested_as_unseen_where_training_puts_images(unseen):
    arrays = arrays_of(canvas=(9, 9), train_positions='left', unseen_positions=unseen)
    seen = {tuple(position) for position in arrays.positions.tolist()}
    assert seen == set(named('left', (4, 4), (9, 9)))
    for examples in (arrays.train, arrays.validation, arrays.test):
        assert {tuple(corner) for corner in examples.corners.tolist()} <= seen
    elsewhere = {tuple(corner) for corner in arrays.unseen.corners.tolist()}
    assert elsewhere <= set(named(unseen, (4, 4), (9, 9))) - seen and len(elsewhere) > 5
    np.testing.assert_array_equal(arrays.unseen.images, arrays.test.images)


def test_training_at_every_position_leaves_none_unseen():
    with pytest.raises(errors.InputError, match="no position of 'left' is unseen: training uses them all"):
        arrays_of(canvas=(9, 9), train_positions='any', unseen_positions='left')


def test_evaluated_images_stand_at_the_same_places_for_every_seed():
    placed = {'canvas': (9, 9), 'train_positions': 'left', 'unseen_positions': 'right', 'train_size': 20}
    first, second = (arrays_of(seed, **placed) for seed in (0, 1))
    for a, b in ((first.validation, second.validation), (first.test, second.test), (first.unseen, second.unseen)):
        np.testing.assert_array_equal(a.corners, b.corners)


def test_pixels_are_scaled_by_the_root_mean_square_of_the_training_images():
    arrays = arrays_of(train_size=30)
    scaled = arrays.train.images[:].astype(np.float64) * arrays.scale
    assert np.square(scaled).mean() == pytest.approx(1, rel=1e-5) and arrays.scale.shape == (1,)


def test_more_training_images_than_there_are_is_refused():
    with pytest.raises(errors.InputError, match='train_size 61 is larger than the 60 training images of numbered'):
        arrays_of(train_size=61)
