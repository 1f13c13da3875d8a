"""The spatial maps as pure array functions: shared (convolution), tiled, low-rank, locally connected, dense.

Images are NHWC. Each map multiplies the patch under the filter with a kernel and sums; what differs is which positions own a kernel:

    shared              y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[a,b,c,f]                     one kernel for all positions
    tiled               y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[i mod th, j mod tw,a,b,c,f]  kernels that repeat
    low_rank            y[n,i,j,f] = sum_{abck} x[n, si+a, sj+b, c] mixture[i,j,k] kernel[k,a,b,c,f]   mixtures of a few kernels
    locally_connected   y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[i,j,a,b,c,f]                 one kernel per position
    dense               y[n,i,j,f] = sum_{hwc} x[n,h,w,c] kernel[h,w,c,i,j,f]                          every pixel to every position

How a convolution is computed, and with it a low-rank map, is chosen in `lowering.py` and nowhere else.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

from cnn_research import lowering
from cnn_research.direct import HIGHEST, Strides, pad, patches
from cnn_research.geometry import Geometry

_PATCH_BYTES = 2**28  # patches of a locally connected layer that are laid out at once


def shared(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)) -> jax.Array:
    """Convolution (cross-correlation, as in every deep learning library): [N, H, W, C] with kernel [kh, kw, C, F] to [N, H', W', F].

    On a CPU its gradient is a rule of its own, for reverse mode (`grad`, `vjp`, and either over them); `jvp` alone is refused by JAX.

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
    """
    kh, kw, channels, features = kernel.shape
    g = Geometry((x.shape[1], x.shape[2]), (kh, kw), strides, padding, dilation)
    way = lowering.choose(jax.default_backend(), g, channels, features, jnp.result_type(x, kernel).itemsize)
    return lowering.WAYS[way](x, kernel, g)


def locally_connected(
    x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)
) -> jax.Array:
    """Unshared convolution: [N, H, W, C] with one kernel per position [H', W', kh, kw, C, F] to [N, H', W', F].

    Positions lead while multiplying (one batched matrix product over positions), which is several times faster than images leading. Where
    the patches would take too much memory they are laid out for some rows of positions at a time.

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
      ValueError: the kernel has another number of positions than the image.
    """
    rows, columns, kh, kw, channels, features = kernel.shape
    g = Geometry((x.shape[1], x.shape[2]), (kh, kw), strides, padding, dilation)
    if g.positions != (rows, columns):
        raise ValueError(f'kernel for {rows} x {columns} positions, image has {g.positions[0]} x {g.positions[1]}')
    x = _positions_first(x, g)
    images = x.shape[2]
    a_row = math.prod((images, columns, kh, kw, channels)) * x.dtype.itemsize
    at_once = next((n for n in range(rows, 1, -1) if rows % n == 0 and n * a_row <= _PATCH_BYTES), 1)
    kernel = kernel.reshape(rows // at_once, at_once, columns, kh * kw * channels, features)
    height = (at_once - 1) * strides[0] + (kh - 1) * dilation[0] + 1  # that so many rows of positions see

    def some_rows(first, kernel):
        seen = patches(lax.dynamic_slice_in_dim(x, first, height), g.kernel_size, strides, dilation, axes=(0, 1))
        return jnp.matmul(seen, kernel, precision=HIGHEST)

    if at_once == rows:
        y = some_rows(0, kernel[0])
    else:  # in the backward pass the patches are laid out again
        firsts = at_once * strides[0] * jnp.arange(len(kernel))
        y = lax.map(lambda both: jax.checkpoint(some_rows)(*both), (firsts, kernel)).reshape(rows, columns, images, features)
    return y.transpose(2, 0, 1, 3)


def _positions_first(x: jax.Array, g: Geometry) -> jax.Array:
    """Padded images as [H, W, N, C], so that patches have positions first: the images are turned round, not the many patches."""
    return pad(x, g.kernel_size, g.strides, g.padding, g.dilation).transpose(1, 2, 0, 3)


def tiled(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)) -> jax.Array:
    """Tiled convolution: [N, H, W, C] with kernels that repeat over positions [th, tw, kh, kw, C, F] to [N, H', W', F].

    One matrix product per kernel, over all images and positions that use it (Le et al. 2010).

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
    """
    th, tw, kh, kw, _, features = kernel.shape
    g = Geometry((x.shape[1], x.shape[2]), (kh, kw), strides, padding, dilation)
    seen = patches(_positions_first(x, g), g.kernel_size, strides, dilation, axes=(0, 1))
    rows, columns, n, size = seen.shape
    seen = jnp.pad(seen, ((0, -rows % th), (0, -columns % tw), (0, 0), (0, 0)))  # whole tiles
    down, across = seen.shape[0] // th, seen.shape[1] // tw
    by_kernel = seen.reshape(down, th, across, tw, n, size).transpose(1, 3, 0, 2, 4, 5).reshape(th, tw, -1, size)
    y = jnp.matmul(by_kernel, kernel.reshape(th, tw, size, features), precision=HIGHEST)
    y = y.reshape(th, tw, down, across, n, features).transpose(4, 2, 0, 3, 1, 5)
    return y.reshape(n, down * th, across * tw, features)[:, :rows, :columns]


def low_rank(
    x: jax.Array, kernel: jax.Array, mixture: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)
) -> jax.Array:
    """Low-rank locally connected: [N, H, W, C] with K kernels [K, kh, kw, C, F], mixed by [H', W', K], to [N, H', W', F].

    One convolution with K * F features, then the sum over K at every position (Elsayed et al. 2020, section 3).

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
      ValueError: the mixture has another number of positions than the image.
    """
    rank, kh, kw, channels, features = kernel.shape
    y = shared(x, kernel.transpose(1, 2, 3, 0, 4).reshape(kh, kw, channels, rank * features), strides, padding, dilation)
    if y.shape[1:3] != mixture.shape[:2]:
        raise ValueError(f'mixture for {mixture.shape[0]} x {mixture.shape[1]} positions, image has {y.shape[1]} x {y.shape[2]}')
    return jnp.sum(y.reshape(*y.shape[:3], rank, features) * mixture[..., None], axis=3)


def dense(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A dense layer from maps to maps: [N, H, W, C] with kernel [H, W, C, H', W', F] to [N, H', W', F].

    Raises:
      ValueError: the kernel is for images of another size.
    """
    if x.shape[1:] != kernel.shape[:3]:
        raise ValueError(f'kernel for images of {kernel.shape[:3]}, got {x.shape[1:]}')
    size = kernel.shape[0] * kernel.shape[1] * kernel.shape[2]
    y = jnp.matmul(x.reshape(-1, size), kernel.reshape(size, -1), precision=HIGHEST)
    return y.reshape(-1, *kernel.shape[3:])
