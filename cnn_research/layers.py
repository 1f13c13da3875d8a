"""Linen layers over the spatial maps: they declare parameters and call one op. Fields are named as in `flax.linen.Conv`.

Every layer draws each kernel with the initialiser of the kernel it is, whatever the sharing: `kernel_init` sees the shape of ONE
filter ([kh, kw, C, F]) or of one dense map ([H * W * C, H' * W' * F]), so the fan-in is the number of inputs of a unit and all
schemes start with the same output variance. (`flax.linen.ConvLocal` counts the output positions into the fan-in and starts too small.)
Biases are per channel, [F], for all schemes.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnn_research import errors, geometry, ops

Initializer = Callable[..., jax.Array]
default_kernel_init = nn.initializers.lecun_normal()


class _SpatialMap(nn.Module):
    """Fields that all three maps share; `[N, H, W, C]` to `[N, H', W', features]`."""

    features: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    padding: str = 'SAME'
    use_bias: bool = True
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()

    def output_size(self, x: jax.Array) -> tuple[int, int]:
        """Positions (H', W') for images x; raises InputError where the kernel does not fit."""
        sizes = zip(x.shape[1:3], self.kernel_size, self.strides)
        rows, columns = (geometry.output_size(size, k, s, self.padding) for size, k, s in sizes)
        return rows, columns

    def add_bias(self, y: jax.Array) -> jax.Array:
        """Add one bias per channel."""
        return y + self.param('bias', self.bias_init, (self.features,), self.param_dtype) if self.use_bias else y


class SharedConv(_SpatialMap):
    """Convolution: one kernel [kh, kw, C, F] for all positions (LeCun et al. 1989). Equal to `flax.linen.Conv` for its paddings."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param('kernel', self.kernel_init, shape, self.param_dtype)
        return self.add_bias(ops.shared(x, kernel, self.strides, self.padding))


class LocallyConnected(_SpatialMap):
    """Unshared convolution: one kernel per position, [H', W', kh, kw, C, F]; same connections as the convolution."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        positions = self.output_size(x)
        shape = (*self.kernel_size, x.shape[-1], self.features)

        def init(key):
            keys = jax.random.split(key, math.prod(positions))
            kernels = jax.vmap(lambda k: self.kernel_init(k, shape, self.param_dtype))(keys)
            return kernels.reshape(*positions, *shape)

        return self.add_bias(ops.locally_connected(x, self.param('kernel', init), self.strides, self.padding))


class DenseMap(_SpatialMap):
    """Dense layer onto the maps that a convolution with these fields would give: kernel [H, W, C, H', W', F]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*x.shape[1:], *self.output_size(x), self.features)

        def init(key):
            matrix = self.kernel_init(key, (math.prod(shape[:3]), math.prod(shape[3:])), self.param_dtype)
            return matrix.reshape(shape)

        return self.add_bias(ops.dense(x, self.param('kernel', init)))


SCHEMES: dict[str, type[_SpatialMap]] = {'shared': SharedConv, 'local': LocallyConnected, 'dense': DenseMap}


def scheme(name: str) -> type[_SpatialMap]:
    """The layer of a sharing scheme by name. Raises InputError that lists the known ones."""
    if name not in SCHEMES:
        raise errors.known('sharing scheme', name, SCHEMES)
    return SCHEMES[name]
