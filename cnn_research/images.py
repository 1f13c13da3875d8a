"""What is done to images before a network sees them, as pure functions: placed on a canvas, moved, mirrored."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def place(images: jax.Array | np.ndarray, corners: jax.Array | np.ndarray, canvas: tuple[int, int]) -> jax.Array:
    """Each image [N, h, w, C] on a black canvas [N, H, W, C] with its upper left pixel at `corners` [N, 2] (inside, not checked)."""

    def one(image, corner):
        empty = jnp.zeros((*canvas, image.shape[-1]), image.dtype)
        return lax.dynamic_update_slice(empty, image, (corner[0], corner[1], jnp.zeros((), corner.dtype)))

    return jax.vmap(one)(images, corners)


def shift(images: jax.Array, by: jax.Array, most: int) -> jax.Array:
    """Each image [N, h, w, C] moved down and to the right by `by` [N, 2] pixels, at most `most` either way; black comes in behind it."""
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))

    def one(image, corner):
        return lax.dynamic_slice(image, (corner[0], corner[1], jnp.zeros((), corner.dtype)), images.shape[1:])

    return jax.vmap(one)(padded, most - by)


def mirror(images: jax.Array, chosen: jax.Array) -> jax.Array:
    """The `chosen` [N] (bool) of the images [N, h, w, C] with left and right exchanged."""
    return jnp.where(chosen[:, None, None, None], images[:, :, ::-1], images)
