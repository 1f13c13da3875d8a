"""The ways to make maps smaller, against loops over positions."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import pooling

RANDOM = np.random.default_rng(0)


def beyond(image, row, column, wraps):
    """A pixel that may lie outside: of the other side, or of the mirror image."""
    sides = image.shape[:2]
    if wraps:
        return image[row % sides[0], column % sides[1]]
    at = [0 if side == 1 else (side - 1) - abs((side - 1) - abs(place)) for place, side in zip((row, column), sides)]
    return image[at[0], at[1]]


def everywhere(image, size, wraps):
    """The maximum of the square that begins at each position."""
    height, width = image.shape[:2]
    result = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            at = [(row + a, column + b) for a in range(size) for b in range(size)]
            at = [(a % height, b % width) for a, b in at] if wraps else [(a, b) for a, b in at if a < height and b < width]
            result[row, column] = np.max([image[place] for place in at], axis=0)
    return result


def by_hand(way, image, factor, wraps):
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    most = everywhere(image, factor, wraps)
    if way == 'max':
        return most[: rows * factor : factor, : columns * factor : factor]
    if way == 'blur':
        weights = [(a, b, (2 - abs(a)) * (2 - abs(b)) / 16) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        return np.array(
            [
                [sum(w * beyond(most, factor * r + a, factor * c + b, wraps) for a, b, w in weights) for c in range(columns)]
                for r in range(rows)
            ]
        )
    grids = [most[a : rows * factor : factor, b : columns * factor : factor] for a in range(factor) for b in range(factor)]
    return max(grids, key=lambda grid: np.square(grid).sum())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(pooling.WAYS)), st.integers(1, 3), st.integers(3, 7), st.integers(3, 7), st.booleans())
def test_every_way_is_what_it_says(way, factor, height, width, wraps):
    x = RANDOM.standard_normal((2, height, width, 3)).astype(np.float32)
    expected = np.stack([by_hand(way, image, factor, wraps) for image in x.astype(np.float64)])
    np.testing.assert_allclose(pooling.WAYS[way](jnp.asarray(x), factor, wraps), expected, atol=1e-6)


@pytest.mark.parametrize('by', [(1, 0), (3, 5), (2, 2)])
def test_a_grid_of_its_own_moves_along_and_a_fixed_one_does_not(by):
    x = jnp.asarray(RANDOM.standard_normal((4, 8, 8, 2)), jnp.float32)
    moved = jnp.roll(x, by, (1, 2))

    def multiset(y):
        return np.sort(np.asarray(y).reshape(4, -1), axis=1)

    assert np.array_equal(multiset(pooling.polyphase(x, 2, True)), multiset(pooling.polyphase(moved, 2, True)))
    fixed = by[0] % 2 == 0 and by[1] % 2 == 0
    assert np.array_equal(multiset(pooling.maximum(x, 2, True)), multiset(pooling.maximum(moved, 2, True))) == fixed
