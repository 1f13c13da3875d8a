"""Generated tasks: what stands in every image, and that nothing else tells the classes apart."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import data, errors
from cnn_research.data import digits, edges, red_green


def corner(channel):
    """(row, column) of the one 4 x 4 square of 255 in an otherwise black channel."""
    row, column = np.argwhere(channel)[0]
    expected = np.zeros((32, 32), np.uint8)
    expected[row : row + 4, column : column + 4] = 255
    np.testing.assert_array_equal(channel, expected)
    return row, column


def test_red_and_green_stand_where_the_paper_has_them():
    task = data.load('red_green')
    splits = [
        (task.train_images, task.train_labels),
        (task.validation_images, task.validation_labels),
        (task.test_images, task.test_labels),
    ]
    assert [len(labels) for _, labels in splits] == [2000, 1000, 1000]
    for images, labels in splits:
        assert images.shape[1:] == (32, 32, 3) and not images[..., 2].any() and np.bincount(labels).tolist() == [len(labels) / 2] * 2
        red, green = (np.array([corner(image[..., channel]) for image in images]) for channel in (0, 1))
        left, right = (np.where((labels == of)[:, None], red, green) for of in (0, 1))
        assert (left[:, 1].min(), left[:, 1].max()) == (0, 9) and right[:, 1].max() == 27 and (right[:, 1] - left[:, 1]).min() == 5
        for label, base in enumerate(red_green.ROWS):
            rows = np.concatenate([red[labels == label, 0], green[labels == label, 0]])
            counts = np.bincount(rows - (base - 4), minlength=8)
            assert len(counts) == 8 and counts.min() > 0.75 * counts.mean()
        assert abs(np.corrcoef(red[labels == 0, 0], green[labels == 0, 0])[0, 1]) < 0.12


def test_the_dissimilar_test_is_the_other_one_moved_by_16_rows():
    task = data.load('red_green')
    assert task.test_names == ('similar', 'dissimilar')
    np.testing.assert_array_equal(task.unseen_labels, task.test_labels)
    for image, moved, label in zip(task.test_images, task.unseen_images, task.test_labels):
        (row, column), (other_row, other_column) = corner(image[..., 0]), corner(moved[..., 0])
        assert (other_row - row, other_column) == ((16, -16)[label], column)


def test_the_same_task_every_time_and_no_split_in_another():
    for name in ('red_green', 'edges', 'edges/positions2-noise0'):
        one, other = data.load(name), data.load(name)
        assert one.sha256() == other.sha256() and one.name == name
    with pytest.raises(errors.InputError, match='leave --raw_dir out'):
        data.load('edges', raw_dir='/tmp')
    task = data.load('edges')
    seen = {image.tobytes() for image in task.train_images}
    assert not any(image.tobytes() in seen for image in np.concatenate([task.test_images, task.validation_images, task.unseen_images]))


@pytest.mark.parametrize(('orientation', 'expected'), [
    ('vertical', lambda p: (p[:, 3] == 1).all() and (p[:, 4] == -1).all()),
    ('horizontal', lambda p: (p[3] == 1).all() and (p[4] == -1).all()),
    ('falling', lambda p: p[4, 3] == 1 and p[3, 4] == -1 and p[2, 2] == 0 and p[5, 5] == 0),
    ('rising', lambda p: p[3, 3] == 1 and p[4, 4] == -1 and p[2, 5] == 0 and p[5, 2] == 0),
    ('none', lambda p: not p.any()),
])  # fmt: skip
def test_a_pattern_is_a_bright_bar_beside_a_dark_one(orientation, expected):
    p = edges.pattern(orientation, 1)
    assert p.shape == (8, 8) and p.sum() == 0 and expected(p)
    if orientation in ('vertical', 'horizontal'):
        assert [int(abs(edges.pattern(orientation, t)).sum()) for t in (1, 2, 4)] == [16, 32, 64]


def middle(image):
    """Where a vertical edge stands, by its bright bar, which is two pixels thick and at the left of it."""
    row, column = np.argwhere(image[..., 0] > 200).mean(0)
    return int(row + 0.5), int(column + 1.5)


def test_every_position_is_tested_with_as_many_images_of_each_class():
    task = data.load('edges/positions3-noise0-clutter0-contrast1')
    seen, unseen = edges.places(3)
    assert len(seen) == 3 and len(unseen) == 78
    for where, images, labels in ((seen, task.test_images, task.test_labels), (unseen, task.unseen_images, task.unseen_labels)):
        assert len(images) == edges.AT_EACH * len(where)
        for place, of, label in zip(where, np.split(images, len(where)), np.split(labels, len(where))):
            assert label.mean() == 0.5
            np.testing.assert_array_equal(middle(of[label == 1][0]), place)
    trained = {middle(image) for image in task.train_images[task.train_labels == 1]}
    assert trained == set(map(tuple, seen.tolist()))


def test_more_positions_hold_fewer_and_they_are_spread():
    assert edges.places(1)[0].tolist() == [[8, 8]]
    for count in range(1, 81):
        fewer, more = (set(map(tuple, edges.places(n)[0].tolist())) for n in (count, count + 1))
        assert fewer < more
    rows, columns = edges.places(16)[0].T
    assert len(set(rows % 2)) == len(set(columns % 2)) == 2 and len(set(rows)) > 5 < len(set(columns))
    assert data.load('edges/positions81').unseen_images is None


def test_brightness_alone_tells_the_classes_not_apart():
    """Mean and spread of the pixels are those of images with a horizontal edge, the quarter of the other class with the largest spread."""
    task = data.load('edges/positions81-images4000-noise0.05-clutter0')
    images = task.train_images.reshape(len(task.train_images), -1) / 255
    means, spreads = images.mean(1), images.std(1)
    vertical = task.train_labels == 1
    assert means[vertical].mean() == pytest.approx(means[~vertical].mean(), abs=0.002)
    assert spreads[vertical].mean() == pytest.approx(np.quantile(spreads[~vertical], 0.875), abs=0.002)


def test_copies_are_the_same_images_with_the_pattern_elsewhere_and_whole():
    task = data.load('edges/images50-copies3-noise0-clutter0-contrast1')
    first, images, labels = data.load('edges/images50-noise0-clutter0-contrast1'), task.train_images, task.train_labels
    np.testing.assert_array_equal(images[:50], first.train_images)
    np.testing.assert_array_equal(labels, np.tile(first.train_labels, 4))
    assert len(images) == 200 and task.unseen_images is None and len(task.test_images) == 81 * edges.AT_EACH
    for image, copy in zip(np.tile(images[:50], (4, 1, 1, 1))[labels == 1], images[labels == 1]):
        row, column = np.subtract(middle(copy), middle(image))
        np.testing.assert_array_equal(np.roll(image, (row, column), (0, 1)), copy)
    assert len({middle(image) for image in images[50:][labels[50:] == 1]}) > 30


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.builds(
    edges.Setting, positions=st.integers(1, 81), images=st.integers(10, 10**5), copies=st.integers(0, 9),
    contrast=st.sampled_from([0.125, 0.5, 1.0]),
    noise=st.sampled_from([0.0, 0.00001, 0.15, 1.0]), thickness=st.integers(1, 4), clutter=st.integers(0, 256),
))  # fmt: skip
def test_a_setting_is_told_by_its_name(setting):
    family, _, text = edges.name(setting).partition('/')
    assert family == 'edges' and edges.parse(text) == setting
    assert (text == '') == (setting == edges.Setting())


@pytest.mark.parametrize(('name', 'words'), [
    ('edges/positions0', 'positions must be a whole number of at least 1'), ('edges/positions82', '81 positions, got 82'),
    ('edges/place3', "positions, images, copies, contrast, noise, thickness, clutter, as in edges/positions4-noise0.3, got 'place3'"),
    ('edges/positions1.5', 'positions of edges must be a whole number'), ('edges/noise2', 'noise from 0 to 1'),
    ('edges/contrast0', 'contrast must be above 0'), ('edges/images9', 'from 10'), ('edges/images2000000', 'to 1,000,000'),
    ('edges/images200000-copies9', 'to 1,000,000 with their copies'), ('edges/positions1-positions2', "got 'positions2'"),
    ('edges/thickness5', 'at most 4'), ('edges/../x', 'got '), ('red_green/big', 'no setting'),
    ('digits/7', 'from 8 to 1024'), ('digits/2000', 'from 8 to 1024'), ('digits/x', 'as in digits/28'),
])  # fmt: skip
def test_a_setting_that_means_nothing_is_refused(name, words):
    with pytest.raises(errors.InputError, match=words):
        data.load(name)


def test_scaled_digits_are_the_same_digits():
    plain, large = data.load('digits'), data.load('digits/24')
    assert large.train_images.shape == (1237, 24, 24, 1) and large.name == 'digits/24'
    np.testing.assert_array_equal(large.test_labels, plain.test_labels)
    means = large.test_images.reshape(-1, 8, 3, 8, 3).mean((2, 4))
    assert np.corrcoef(means.ravel(), plain.test_images.ravel())[0, 1] > 0.97
    assert data.load('digits/8').sha256() == dataclasses.replace(plain, name='digits/8').sha256()
    assert digits.load('').name == 'digits'
