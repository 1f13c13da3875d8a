"""Linear maps whose filters are shared to some degree: few examples, and a sharing that has to be found.

    y[p] = sum_t F[p, t] x[p + t] + sigma z,   F = softmax(M) B,   M [68, r] and B [r, 3] standard normal

Each position's filter is a mixture of r filters; at r = 1 all are the same, and y is a convolution of x. (The rank of F is at most 3.)

Source: Zhou, Knowles and Finn (2021), Meta-learning symmetries by reparameterization, ICLR, section 5.1, for the inputs, the outputs and F.
There the sharing is learned from many tasks, and each task's filters from one example; here both from the examples of one task.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

INPUTS, TAPS = 70, 3
POSITIONS = INPUTS - TAPS + 1


class Ranked(NamedTuple):
    """Inputs [n, 70], outputs [n, 68], and the filters [68, 3] that lead from one to the other."""

    x: jax.Array
    y: jax.Array
    filters: jax.Array


def filtered(filters: jax.Array, x: jax.Array) -> jax.Array:
    """The outputs [n, 68] of a filter [68, 3] per position on inputs [n, 70]."""
    return sum((filters[:, t] * x[:, t : t + POSITIONS] for t in range(TAPS)), jnp.zeros((len(x), POSITIONS)))


def ranked(key: jax.Array, n: int, rank: int, sigma: ArrayLike) -> Ranked:
    """A task of filters of this rank, and n examples of it with noise of deviation sigma on the outputs."""
    mixture, basis, inputs, noise = (jax.random.fold_in(key, purpose) for purpose in range(4))
    filters = jax.nn.softmax(jax.random.normal(mixture, (POSITIONS, rank))) @ jax.random.normal(basis, (rank, TAPS))
    x = jax.random.normal(inputs, (n, INPUTS))
    return Ranked(x, filtered(filters, x) + sigma * jax.random.normal(noise, (n, POSITIONS)), filters)
