"""What is done to images before a network sees them."""

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_research import config, errors, images, problem
from cnn_research.data import load


def test_shift_moves_each_image_by_its_own_way_and_black_comes_in():
    pictures = np.random.default_rng(0).integers(1, 256, (3, 4, 5, 2), np.uint8)
    by = np.array([[0, 0], [1, -2], [-3, 3]])
    expected = np.zeros_like(pictures)
    expected[0] = pictures[0]
    expected[1, 1:, :-2] = pictures[1, :-1, 2:]
    expected[2, :-3, 3:] = pictures[2, 3:, :-3]
    moved = images.shift(jnp.asarray(pictures), jnp.asarray(by), 3)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved, expected)


def test_mirror_turns_round_the_chosen_ones():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 2), np.uint8)
    np.testing.assert_array_equal(
        images.mirror(jnp.asarray(pictures), jnp.array([False, True])), np.stack([pictures[0], np.fliplr(pictures[1])])
    )


@pytest.mark.parametrize('shift', [-1, 1.5, True])
def test_a_shift_is_a_number_of_pixels(shift):
    with pytest.raises(errors.InputError, match='shift must be a whole number of at least 0'):
        config.TrainConfig(shift=shift)


def test_a_shift_out_of_the_image_is_refused():
    c = config.Config(config.ModelConfig(), config.DataConfig('digits'), config.TrainConfig(shift=8))
    with pytest.raises(errors.InputError, match='shift 8 would move images of digits out of themselves'):
        problem.make(c, load('digits'))
    placed = config.DataConfig('digits', canvas=(12, 12), train_positions='left', unseen_positions='right')
    with pytest.raises(errors.InputError, match='a shift would show training images near unseen positions'):
        problem.make(config.Config(config.ModelConfig(), placed, config.TrainConfig(shift=1)), load('digits'))
    with pytest.raises(errors.InputError, match='flip must be True or False'):
        config.TrainConfig(flip=1)
