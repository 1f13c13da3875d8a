"""The axis of weight sharing: one operation, y = patch times kernel, with several parametrisations of the kernel per position.

For every scheme of `schemes.py`, `RULES` holds pure functions of (scheme, geometry, parameters):

    initializers  how each parameter starts: the kernel at every position with the variance of a convolution's
    expand        parameters to one kernel per position, [H', W', kh, kw, C, F]
    apply         images to maps, by the fastest way there is; equal to `ops.locally_connected` with the expanded kernel

`matrix` writes a kernel per position as the dense kernel [H, W, C, H', W', F] that it is. A dense layer has weights outside the filter
too; its `expand` gives those under it.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from cnn_research import ops, schemes
from cnn_research.geometry import Geometry

Params = Mapping[str, jax.Array]
Initializer = Callable[..., jax.Array]  # (key, shape, dtype) to array


class Rules(NamedTuple):
    """The mathematics of one scheme."""

    initializers: Callable[..., dict[str, Initializer]]  # (scheme, geometry, kernel_init), each to be called with (key, shape, dtype)
    expand: Callable[..., jax.Array]  # (scheme, geometry, params)
    apply: Callable[..., jax.Array]  # (scheme, geometry, params, x)


def initializers(scheme: schemes.Scheme, g: Geometry, kernel_init: Initializer) -> dict[str, Initializer]:
    """How each parameter starts, by name, given how ONE kernel [kh, kw, C, F] starts (for dense: one matrix [H * W * C, H' * W' * F])."""
    return RULES[type(scheme)].initializers(scheme, g, kernel_init)


def expand(scheme: schemes.Scheme, g: Geometry, params: Params) -> jax.Array:
    """The kernel that each position uses, [H', W', kh, kw, C, F]; taps on padding may hold anything."""
    return RULES[type(scheme)].expand(scheme, g, params)


def apply(scheme: schemes.Scheme, g: Geometry, params: Params, x: jax.Array) -> jax.Array:
    """The maps [N, H', W', F] of images [N, H, W, C], without bias."""
    return RULES[type(scheme)].apply(scheme, g, params, x)


def matrix(g: Geometry, kernel: jax.Array) -> jax.Array:
    """The dense kernel [H, W, C, H', W', F] of a kernel per position [H', W', kh, kw, C, F]: zero where no tap lies."""
    rows, columns = (jnp.asarray(g.pixels(axis)) for axis in (0, 1))
    positions_h, positions_w = g.positions
    at_row, at_column = jnp.arange(positions_h)[:, None, None, None], jnp.arange(positions_w)[None, :, None, None]
    empty = jnp.zeros((*g.image, kernel.shape[4], positions_h, positions_w, kernel.shape[5]), kernel.dtype)
    # Taps on padding have index -1: what is added there is zero.
    seen = jnp.where(jnp.asarray(g.mask())[..., None, None], kernel, jnp.zeros((), kernel.dtype))
    return empty.at[rows[:, None, :, None], columns[None, :, None, :], :, at_row, at_column, :].add(seen)


def under_filter(g: Geometry, kernel: jax.Array) -> jax.Array:
    """The part of a dense kernel [H, W, C, H', W', F] that lies under the filter, [H', W', kh, kw, C, F]; zero at taps on padding."""
    rows, columns = (jnp.asarray(g.pixels(axis)) for axis in (0, 1))
    at_row, at_column = (jnp.arange(size) for size in g.positions)
    taken = kernel[rows[:, None, :, None], columns[None, :, None, :], :, at_row[:, None, None, None], at_column[None, :, None, None], :]
    return jnp.where(jnp.asarray(g.mask())[..., None, None], taken, jnp.zeros((), kernel.dtype))


def locality_mask(g: Geometry) -> jax.Array:
    """Which pixels each position sees: bool [H, W, 1, H', W', 1], to be multiplied with a dense kernel."""
    sees = []
    for axis in (0, 1):
        pixels = jnp.asarray(g.pixels(axis))
        sees.append(jnp.any(pixels[None] == jnp.arange(g.image[axis])[:, None, None], axis=-1))
    return sees[0][:, None, None, :, None, None] & sees[1][None, :, None, None, :, None]


def mixture(scheme: schemes.LowRank, params: Params) -> jax.Array:
    """The weights [H', W', K] by which every position of a low-rank layer mixes its kernels."""
    raw = scores(scheme, params)
    return raw if scheme.free else jax.nn.softmax(raw, axis=-1)


def scores(scheme: schemes.LowRank, params: Params) -> jax.Array:
    """What becomes the mixture, by a softmax unless it is free: [H', W', K]."""
    return params['row'][:, None] + params['column'][None] if scheme.row_column else params['mixture']


def coordinate_channels(image: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """The row and the column of every pixel, each from -1 to 1: [1, H, W, 2] (Liu et al. 2018, section 3)."""
    rows, columns = (jnp.linspace(-1, 1, size, dtype=dtype) if size > 1 else jnp.zeros(1, dtype) for size in image)
    return jnp.stack(jnp.meshgrid(rows, columns, indexing='ij'), axis=-1)[None]


def coordinate_bias(g: Geometry, params: Params) -> jax.Array:
    """What the coordinate channels add at every position, [1, H', W', F]: the same for all images."""
    weights = params['coordinates']
    return ops.shared(coordinate_channels(g.image, weights.dtype), weights, g.strides, g.padding, g.dilation)


def _lead(count: int, kernel_init: Initializer, scale: float = 1.0) -> Initializer:
    """Kernels drawn one by one along the leading `count` axes of the shape, each times `scale`."""

    def init(key, shape, dtype):
        keys = jax.random.split(key, shape[:count])
        draw = lambda k: kernel_init(k, shape[count:], dtype) * jnp.asarray(scale, dtype)  # noqa: E731
        for _ in range(count):
            draw = jax.vmap(draw)
        return draw(keys)

    return init


def _same(g: Geometry, kernel_init: Initializer) -> Initializer:
    return lambda key, shape, dtype: _everywhere(kernel_init(key, shape[2:], dtype), g)


def _constant(value: float) -> Initializer:
    return lambda key, shape, dtype: jnp.full(shape, value, dtype)


def _dense_init(kernel_init: Initializer) -> Initializer:
    def init(key, shape, dtype):
        size = shape[0] * shape[1] * shape[2]
        return kernel_init(key, (size, shape[3] * shape[4] * shape[5]), dtype).reshape(shape)

    return init


def _masked_init(g: Geometry, kernel_init: Initializer) -> Initializer:
    def init(key, shape, dtype):
        local = _lead(2, kernel_init)(key, (*g.positions, *g.kernel_size, shape[2], shape[5]), dtype)
        return matrix(g, local)

    return init


def _low_rank_inits(scheme: schemes.LowRank, g: Geometry, kernel_init: Initializer) -> dict[str, Initializer]:
    """Every position starts with the same mixture, of a convolution's variance."""
    k = scheme.rank
    weight = k**-0.5 if scheme.free else 0.0  # the softmax of zeros is 1 / K, so its kernels are drawn sqrt(K) larger
    names = ('row', 'column') if scheme.row_column else ('mixture',)
    kernels = {'kernel': _lead(1, kernel_init, 1.0 if scheme.free else k**0.5)}
    return kernels | {name: _constant(weight / len(names)) for name in names}


def _everywhere(kernel: jax.Array, g: Geometry) -> jax.Array:
    return jnp.broadcast_to(kernel, (*g.positions, *kernel.shape))


def _repeat(kernel: jax.Array, g: Geometry) -> jax.Array:
    rows, columns = (jnp.arange(size) % t for size, t in zip(g.positions, kernel.shape))
    return kernel[rows[:, None], columns[None]]


def _filters(g: Geometry) -> tuple:
    return g.strides, g.padding, g.dilation


_LOCAL = Rules(
    lambda s, g, init: {'kernel': _lead(2, init)},
    lambda s, g, p: p['kernel'],
    lambda s, g, p, x: ops.locally_connected(x, p['kernel'], *_filters(g)),
)

# research code may add a scheme of its own
RULES: dict[type[schemes.Scheme], Rules] = {
    schemes.Shared: Rules(
        lambda s, g, init: {'kernel': init},
        lambda s, g, p: _everywhere(p['kernel'], g),
        lambda s, g, p, x: ops.shared(x, p['kernel'], *_filters(g)),
    ),
    schemes.Coordinates: Rules(
        lambda s, g, init: {'kernel': init, 'coordinates': _constant(0.0)},
        lambda s, g, p: _everywhere(p['kernel'], g),
        lambda s, g, p, x: ops.shared(x, p['kernel'], *_filters(g)) + coordinate_bias(g, p),
    ),
    schemes.Tiled: Rules(
        lambda s, g, init: {'kernel': _lead(2, init)},
        lambda s, g, p: _repeat(p['kernel'], g),
        lambda s, g, p, x: ops.tiled(x, p['kernel'], *_filters(g)),
    ),
    schemes.LowRank: Rules(
        _low_rank_inits,
        lambda s, g, p: jnp.einsum('ijk,kabcf->ijabcf', mixture(s, p), p['kernel'], precision='highest'),
        lambda s, g, p, x: ops.low_rank(x, p['kernel'], mixture(s, p), *_filters(g)),
    ),
    schemes.Local: _LOCAL,
    # The mean of kernels drawn one by one would be almost nothing: it starts as one kernel at every position.
    schemes.Averaged: _LOCAL._replace(initializers=lambda s, g, init: {'kernel': _same(g, init)}),
    schemes.MaskedDense: Rules(
        lambda s, g, init: {'kernel': _masked_init(g, init)},
        lambda s, g, p: under_filter(g, p['kernel']),
        lambda s, g, p, x: ops.dense(x, p['kernel'] * locality_mask(g)),
    ),
    schemes.Dense: Rules(
        lambda s, g, init: {'kernel': _dense_init(init)},
        lambda s, g, p: under_filter(g, p['kernel']),
        lambda s, g, p, x: ops.dense(x, p['kernel']),
    ),
}


def after_step(scheme: schemes.Scheme, g: Geometry, params: Params, step: jax.Array) -> Params:
    """What the scheme makes of a layer's parameters after step number `step` (from 1): `averaged:N` shares them every N steps."""
    if not isinstance(scheme, schemes.Averaged):
        return params

    def shared(kernel):
        return _everywhere(tied_mean(g, kernel), g)

    kernel = jax.lax.cond(step % scheme.every == 0, shared, lambda kernel: kernel, params['kernel'])
    return {**params, 'kernel': kernel}


def tied_mean(g: Geometry, kernel: jax.Array) -> jax.Array:
    """The nearest shared kernel [kh, kw, C, F] to one per position: at each tap the mean over the positions where it meets a pixel."""
    mask = jnp.asarray(g.mask(), kernel.dtype)[..., None, None]
    return jnp.sum(kernel * mask, axis=(0, 1)) / jnp.maximum(jnp.sum(mask, axis=(0, 1)), 1)
