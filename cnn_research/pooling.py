"""How a stage makes its maps smaller, by a factor along both axes, as pure functions.

    max        the maximum over disjoint squares
    blur       the maximum at every position, blurred, then every so manyth position (Zhang 2019, section 3.2, MaxBlurPool)
    polyphase  the maximum at every position, then, of the grids that every so manyth position makes, the one with the largest norm
               (Chaman & Dokmanic 2021, section 4, adaptive polyphase sampling)

A maximum over disjoint squares depends on where the squares lie; the other two make up for that, in part and (for circular shifts, where
the factor divides the sides) wholly. What does not fill a square at the right and bottom is left out by all.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp


def maximum(x: jax.Array, factor: int, wraps: bool) -> jax.Array:
    """Maximum over disjoint factor x factor squares: [N, H, W, C] to [N, H // factor, W // factor, C].

    Rows first, then columns, by `maximum` of two at a time: on a CPU its gradient costs a third of that of `lax.reduce_window`.
    """
    n, height, width, channels = x.shape
    rows, columns = height // factor, width // factor
    x = x[:, : rows * factor, : columns * factor].reshape(n, rows, factor, columns * factor, channels)
    x = functools.reduce(jnp.maximum, [x[:, :, a] for a in range(factor)]).reshape(n, rows, columns, factor, channels)
    return functools.reduce(jnp.maximum, [x[:, :, :, b] for b in range(factor)])


def blur(x: jax.Array, factor: int, wraps: bool) -> jax.Array:
    """MaxBlurPool: [N, H, W, C] to [N, H // factor, W // factor, C], blurred by 1, 2, 1 along both axes.

    Beyond the border lies the other side if it `wraps`, otherwise the mirror image, as in Zhang's code.
    """
    rows, columns = x.shape[1] // factor, x.shape[2] // factor
    x = _maximum_everywhere(x, factor, wraps)
    for axis in (1, 2):
        # a side of one pixel has no mirror image without itself
        mode = 'wrap' if wraps else 'reflect' if x.shape[axis] > 1 else 'edge'
        padded = jnp.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(4)], mode=mode)
        before, here, after = (jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(3))
        x = (before + 2 * here + after) / 4
    return x[:, : rows * factor : factor, : columns * factor : factor]


def polyphase(x: jax.Array, factor: int, wraps: bool) -> jax.Array:
    """Adaptive polyphase sampling: [N, H, W, C] to [N, H // factor, W // factor, C]; every image keeps the grid of its largest l2 norm."""
    rows, columns = x.shape[1] // factor, x.shape[2] // factor
    x = _maximum_everywhere(x, factor, wraps)[:, : rows * factor, : columns * factor]
    grids = x.reshape(-1, rows, factor, columns, factor, x.shape[3]).transpose(0, 2, 4, 1, 3, 5)
    grids = grids.reshape(-1, factor**2, rows, columns, x.shape[3])
    largest = jnp.argmax(jnp.sum(jnp.square(grids), axis=(2, 3, 4)), axis=1)
    return jnp.take_along_axis(grids, largest[:, None, None, None, None], axis=1)[:, 0]


def _maximum_everywhere(x: jax.Array, size: int, wraps: bool) -> jax.Array:
    """The maximum of the size x size square that begins at every position: the part of it that lies in the image, unless that wraps."""
    for axis in (1, 2):
        padded = jnp.pad(x, [(0, size - 1) if a == axis else (0, 0) for a in range(4)], mode='wrap' if wraps else 'edge')
        x = functools.reduce(jnp.maximum, [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(size)])
    return x


WAYS: dict[str, Callable[[jax.Array, int, bool], jax.Array]] = {'max': maximum, 'blur': blur, 'polyphase': polyphase}
