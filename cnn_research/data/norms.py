"""Which of two channels has the larger norm: a task that two layers of shared filters learn at once, and dense layers hardly.

    y = 1 where |x[..., 0]| > |x[..., 1]|, else -1         Li, Zhang and Arora 2021, section 1

`gaussian` draws x with independent standard normal entries, which no rotation changes: a learner that treats all directions of the D
inputs alike needs on the order of D^2 examples (their theorem 5.2). `of_images` asks the same of the red and the green of photographs.

Source: Li, Zhang and Arora (2021), Why are convolutional nets more sample-efficient than fully-connected nets?, ICLR.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Compared(NamedTuple):
    """Examples [n, side, side, 2] and their labels [n], -1 or 1."""

    x: jax.Array | np.ndarray
    y: jax.Array | np.ndarray


def gaussian(key: jax.Array, n: int, side: int) -> Compared:
    """n examples of normal noise."""
    x = jax.random.normal(key, (n, side, side, 2))
    squares = jnp.sum(jnp.square(x), axis=(1, 2))
    return Compared(x, jnp.where(squares[:, 0] > squares[:, 1], 1.0, -1.0))


def of_images(images: np.ndarray, side: int) -> Compared:
    """Red and green of uint8 images [N, H, W, 3], scaled to this side and to a mean square of 1; as many of either label.

    Images of the more frequent label are left out from the end, those with equal norms altogether. The order stays that of the images.
    """
    small = jax.image.resize(images[..., :2].astype(np.float32), (len(images), side, side, 2), 'linear', antialias=True)
    x = np.asarray(small / jnp.sqrt(jnp.mean(jnp.square(small))))
    squares = np.sum(np.square(x, dtype=np.float64), axis=(1, 2))
    larger = [np.flatnonzero(squares[:, a] > squares[:, b]) for a, b in ((0, 1), (1, 0))]
    count = min(map(len, larger))
    kept = np.sort(np.concatenate([found[:count] for found in larger]))
    return Compared(x[kept], np.where(squares[kept, 0] > squares[kept, 1], 1.0, -1.0).astype(np.float32))
