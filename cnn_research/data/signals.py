"""Tasks of which theory says how many examples each kind of layer needs; drawn from a key, as many as are asked for, on the device.

    dynamic signal   x = sigma z + y e_patch (x) w,  y = -1 or 1 and the patch uniform         Lahoti et al. 2024, section 3
    static signal    the same with the signal always in the first patch

z has independent standard normal entries, w is a unit vector, e_patch (x) w is w in one patch and zero in the others. A learner that is to
have n examples draws a pool of that size or more, and uses its first n.

Source: Lahoti, Karp, Winston, Singh and Li (2024), Role of locality and weight sharing in image-based tasks: a sample complexity separation
between CNNs, LCNs, and FCNs, ICLR.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


class Signals(NamedTuple):
    """Examples [n, patches, dimension], their labels [n], -1 or 1, and the patch [n] that holds the signal."""

    x: jax.Array
    y: jax.Array
    patch: jax.Array


def direction(key: jax.Array, dimension: int) -> jax.Array:
    """A unit vector [dimension], uniform over the sphere: what a task's signal looks like."""
    w = jax.random.normal(key, (dimension,))
    return w / jnp.linalg.norm(w)


def dynamic_signal(key: jax.Array, w: jax.Array, n: int, patches: int, sigma: ArrayLike) -> Signals:
    """n examples whose signal, w [dimension] or its negative, stands in a patch drawn for each of them."""
    return _signal(key, w, n, patches, sigma, jax.random.randint(jax.random.fold_in(key, 2), (n,), 0, patches))


def static_signal(key: jax.Array, w: jax.Array, n: int, patches: int, sigma: ArrayLike) -> Signals:
    """n examples whose signal, w [dimension] or its negative, stands in the first patch."""
    return _signal(key, w, n, patches, sigma, jnp.zeros(n, jnp.int32))


def _signal(key: jax.Array, w: jax.Array, n: int, patches: int, sigma: ArrayLike, patch: jax.Array) -> Signals:
    y = jax.random.rademacher(jax.random.fold_in(key, 0), (n,), w.dtype)
    noise = jnp.asarray(sigma * jax.random.normal(jax.random.fold_in(key, 1), (n, patches, len(w)), w.dtype))
    return Signals(noise.at[jnp.arange(n), patch].add(y[:, None] * w), y, patch)
