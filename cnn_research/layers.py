"""Linen layers over the axis of weight sharing, for any Linen model. Fields are named as in `flax.linen.Conv`.

    nn.Conv(32, (3, 3))  ->  LocallyConnected(32, (3, 3)), TiledConv(32, (3, 3), period=(2, 2)), LowRankConv(32, (3, 3), rank=4), ...

They declare the parameters of a scheme (`schemes.py`) and call its function (`sharing.py`). `kernel_init` returns an array and sees the
shape of ONE filter ([kh, kw, C, F]) or of one dense map ([H * W * C, H' * W' * F]): under an initializer that scales by the fan-in (lecun,
he) all schemes start with the same output variance. (`flax.linen.ConvLocal` counts the output positions into it and starts too small.)
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.linen.dtypes import promote_dtype

from cnn_research import cost, errors, schemes, sharing
from cnn_research.geometry import Geometry

Initializer = Callable[..., jax.Array]
default_kernel_init = nn.initializers.lecun_normal()


class SpatialMap(nn.Module):
    """Images [..., H, W, C] to maps [..., H', W', features], sharing weights as `scheme` says.

    Images are two-dimensional: one number as `kernel_size` is both its sides. Where the parameters of a scheme depend on the image size,
    the first call fixes it (shared, coordinates and tiled fit any size). Computed in `dtype` (None: as the inputs and parameters
    promote), at full precision; parameters are `param_dtype`. The bias is [F], or [H', W', F] with `bias_per_position`.

    Raises:
      InputError: unknown padding or scheme, a kernel larger than the image, a scheme that cannot have this layer (a period longer than the
        positions), or parameters larger than the memory of this machine.
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] | None = 1
    padding: str = 'SAME'
    kernel_dilation: int | Sequence[int] = 1
    use_bias: bool = True
    bias_per_position: bool = False
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = default_kernel_init
    bias_init: Initializer = nn.initializers.zeros_init()
    scheme: str | schemes.Scheme = 'shared'

    def shares(self) -> schemes.Scheme:
        """The scheme of this layer."""
        return self.scheme if isinstance(self.scheme, schemes.Scheme) else schemes.parse(self.scheme)

    def geometry(self, image: tuple[int, int]) -> Geometry:
        """Where the filters lie on images of (height, width)."""
        strides = 1 if self.strides is None else self.strides
        pairs = {'kernel_size': self.kernel_size, 'strides': strides, 'kernel_dilation': self.kernel_dilation}
        kernel_size, strides, dilation = (_pair(name, value) for name, value in pairs.items())
        return Geometry(image, kernel_size, strides, self.padding, dilation)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if x.ndim < 3:
            raise errors.InputError(f'a spatial map needs images [..., height, width, channels], got shape {x.shape}')
        errors.positive('features', self.features)
        scheme, g = self.shares(), self.geometry((x.shape[-3], x.shape[-2]))
        shapes = scheme.shapes(g, x.shape[-1], self.features)
        cost.check_layer_fits(scheme.name, shapes, jnp.dtype(self.param_dtype).itemsize)
        starts = sharing.initializers(scheme, g, self.kernel_init)
        params = {name: self.param(name, starts[name], shape, self.param_dtype) for name, shape in shapes.items()}
        bias = None
        if self.use_bias:
            bias = self.param('bias', self.bias_init, (*(g.positions if self.bias_per_position else ()), self.features), self.param_dtype)
        x, bias, *values = promote_dtype(x, bias, *params.values(), dtype=self.dtype)
        y = sharing.apply(scheme, g, dict(zip(params, values)), x.reshape(-1, *x.shape[-3:]))
        y = y if bias is None else y + bias
        return y.reshape(*x.shape[:-3], *y.shape[1:])


class SharedConv(SpatialMap):
    """Convolution: one kernel [kh, kw, C, F] (LeCun et al. 1989).

    Equal to `flax.linen.Conv` where that has the padding, but for kernels that reach beyond the image, which are refused here. On a CPU
    it is differentiated in reverse mode only, see `ops.shared`.
    """


class CoordConv(SpatialMap):
    """Convolution over the image and two channels that hold the row and the column, from -1 to 1 (Liu et al. 2018).

    The kernel of those, [kh, kw, 2, F], starts at zero, not at random as in the paper: so the layer starts as the convolution.
    """

    scheme: str | schemes.Scheme = 'coordinates'


class TiledConv(SpatialMap):
    """Tiled convolution: kernels [th, tw, kh, kw, C, F] that repeat with `period` (th, tw) (Le et al. 2010)."""

    period: int | Sequence[int] = (2, 2)

    def shares(self) -> schemes.Scheme:
        return schemes.Tiled(_pair('period', self.period))


class LowRankConv(SpatialMap):
    """Low-rank locally connected: every position mixes `rank` kernels [K, kh, kw, C, F] (Elsayed et al. 2020).

    The weights of the mixture are [H', W', K], or with `row_column` [H', K] + [W', K]; they pass a softmax over K unless `free`.
    """

    rank: int = 2
    row_column: bool = False
    free: bool = False

    def shares(self) -> schemes.Scheme:
        return schemes.LowRank(self.rank, self.row_column, self.free)


class LocallyConnected(SpatialMap):
    """Unshared convolution: one kernel per position, [H', W', kh, kw, C, F]; same connections as the convolution."""

    scheme: str | schemes.Scheme = 'local'


class MaskedDense(SpatialMap):
    """A dense kernel [H, W, C, H', W', F] of which only what lies under the filter is used: the functions of LocallyConnected."""

    scheme: str | schemes.Scheme = 'masked_dense'


class DenseMap(SpatialMap):
    """Dense layer onto the maps that a convolution with these fields would give: kernel [H, W, C, H', W', F]."""

    scheme: str | schemes.Scheme = 'dense'


def _pair(name: str, value: Any) -> tuple[int, int]:
    """Rows and columns, of one number for both or of two; numpy's numbers too."""
    try:
        pair = tuple(map(operator.index, value if np.iterable(value) else (value, value)))
    except TypeError:
        pair = ()
    if len(pair) != 2 or min(pair) < 1:
        raise errors.InputError(f'{name} must be one whole number above zero, or two, got {value!r}')
    return pair
