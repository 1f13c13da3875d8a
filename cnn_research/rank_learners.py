"""The schemes of the sharing axis on linear maps whose filters are shared to some degree, and how much of the sharing each finds.

A layer learns by Adam on the mean squared error of all examples at once, from its scheme's own start. Inputs are normal and independent, so
what it gets wrong is known exactly: the expected squared error over the variance of the outputs, both without noise, is
|learned - true|^2 / |true|^2 of the two matrices. A rank says how many filters are mixed; of three taps no more than three are independent,
so that low_rank:5 holds every local layer.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from cnn_research import schemes, sharing
from cnn_research.data import ranks
from cnn_research.geometry import Geometry

GEOMETRY = Geometry((ranks.INPUTS, 1), (ranks.TAPS, 1), (1, 1), 'VALID')
SCHEMES = ('shared', 'tiled:2x1', 'tiled:4x1', 'low_rank:2', 'low_rank:5', 'local', 'dense')
EXAMPLES, STEPS = 20, 2000
SETTINGS = tuple(itertools.product((0.01, 0.1), (0.0, 0.1)))  # rates and weight decays that are tried

_Found = tuple[jax.Array, jax.Array]


@functools.partial(jax.jit, static_argnums=(0, 1))
def fitted(scheme: str, rank: int, seeds: jax.Array, sigma: jax.Array, rates: jax.Array, decays: jax.Array) -> _Found:
    """What a layer of this scheme gets wrong after learning from `EXAMPLES` of a task of this rank, for seeds [T] and settings [S].

    Two arrays [S, T]: the expected squared error as a share of the variance of the outputs, and the mean difference of sharing
    (`difference`) between learned and true filters. A seed draws the task, its examples and the start.
    """
    one = functools.partial(_fitted, schemes.parse(scheme), rank)
    return jax.vmap(jax.vmap(one, (0, None, None, None)), (None, None, 0, 0))(seeds, sigma, rates, decays)


def _fitted(scheme: schemes.Scheme, rank: int, seed: jax.Array, sigma: jax.Array, rate: jax.Array, decay: jax.Array) -> _Found:
    task, first = (jax.random.fold_in(jax.random.key(seed), purpose) for purpose in (0, 1))
    drawn = ranks.ranked(task, EXAMPLES, rank, sigma)
    starts = sharing.initializers(scheme, GEOMETRY, nn.initializers.lecun_normal())
    shapes = scheme.shapes(GEOMETRY, 1, 1)
    params = {name: starts[name](jax.random.fold_in(first, i), shape, jnp.float32) for i, (name, shape) in enumerate(shapes.items())}
    adam = optax.scale_by_adam()

    def loss(params):
        return jnp.mean(jnp.square(output(scheme, params, drawn.x) - drawn.y))

    def step(i, carry):
        params, state = carry
        directions, state = adam.update(jax.grad(loss)(params), state)
        falling = rate * 0.5 * (1 + jnp.cos(jnp.pi * i / STEPS))
        return jax.tree.map(lambda p, d: p - falling * (d + decay * p), params, directions), state

    params, _ = jax.lax.fori_loop(0, STEPS, step, (params, adam.init(params)))
    true, learned = matrix(drawn.filters), _matrix(scheme, params)
    wrong = jnp.sum(jnp.square(learned - true)) / jnp.sum(jnp.square(true))
    return wrong, difference(_filters(scheme, params), drawn.filters)


def output(scheme: schemes.Scheme, params: sharing.Params, x: jax.Array) -> jax.Array:
    """y [n, 68] of x [n, 70]: `sharing.apply`, for one channel, by the layer's filters, which costs next to nothing."""
    if isinstance(scheme, schemes.Dense):
        return jnp.matmul(x, _matrix(scheme, params), precision='highest')
    return ranks.filtered(_filters(scheme, params), x)


def matrix(filters: jax.Array) -> jax.Array:
    """The matrix [70, 68] of filters [68, 3]."""
    return sharing.matrix(GEOMETRY, filters[:, None, :, None, None, None]).reshape(ranks.INPUTS, ranks.POSITIONS)


def _matrix(scheme: schemes.Scheme, params: sharing.Params) -> jax.Array:
    if isinstance(scheme, schemes.Dense):
        return params['kernel'].reshape(ranks.INPUTS, ranks.POSITIONS)
    return matrix(_filters(scheme, params))


def _filters(scheme: schemes.Scheme, params: sharing.Params) -> jax.Array:
    """The filters [68, 3] of a layer; of a dense one, what lies where they would."""
    return sharing.expand(scheme, GEOMETRY, params).reshape(ranks.POSITIONS, ranks.TAPS)


def difference(filters: jax.Array, others: jax.Array) -> jax.Array:
    """How differently two layers share: the mean over all pairs of positions of |c - c'|, c the cosine of the pair's filters [P, T].

    0: whichever two positions have the same filter in one layer have so in the other; how large and which way round filters are is left
    out.
    """
    cosines = []
    for f in (filters, others):
        f = f / jnp.maximum(jnp.linalg.norm(f, axis=1, keepdims=True), 1e-12)
        cosines.append(f @ f.T)
    pairs = np.triu_indices(len(filters), 1)
    return jnp.mean(jnp.abs(cosines[0] - cosines[1])[pairs])
