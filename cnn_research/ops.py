"""The spatial maps as pure array functions: shared (convolution), tiled, low-rank, locally connected, dense.

Images are NHWC. Each map multiplies the patch under the filter with a kernel and sums; what differs is which positions own a kernel:

    shared              y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[a,b,c,f]                     one kernel for all positions
    tiled               y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[i mod th, j mod tw,a,b,c,f]  kernels that repeat
    low_rank            y[n,i,j,f] = sum_{abck} x[n, si+a, sj+b, c] mixture[i,j,k] kernel[k,a,b,c,f]   mixtures of a few kernels
    locally_connected   y[n,i,j,f] = sum_{abc} x[n, si+a, sj+b, c] kernel[i,j,a,b,c,f]                 one kernel per position
    dense               y[n,i,j,f] = sum_{hwc} x[n,h,w,c] kernel[h,w,c,i,j,f]                          every pixel to every position

How a map is computed (the lowering) is chosen here, in `shared`, and nowhere else. Measured on one core of an AVX2 machine inside a
compiled loop, batch 128: XLA's own kernel gradient is many times slower inside a loop than outside, so on a CPU the kernel gradient
multiplies patches, in blocks of images that stay in the cache; forward and input gradient are XLA's own convolution from 8 input
channels on (14 x 14 x 16 to 32, k = 9: 20 ms each, 100 GFLOP/s) and blocks of patches below (28 x 28 x 1 to 16, k = 3: 2.5 ms
against 5.7 ms). Accelerators use XLA's convolution throughout, at full float32 precision.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_research import geometry

Strides = tuple[int, int]
_NHWC = ('NHWC', 'HWIO', 'NHWC')
_HIGHEST = lax.Precision.HIGHEST  # true float32: accelerators would otherwise use TF32 or bfloat16 products
_BLOCK = 8  # images whose patches are laid out at once: they stay in the cache
_FEW_CHANNELS = 8  # below this, XLA's CPU convolution loses to patches and a matrix product


def pad(x: jax.Array, kernel_size: tuple[int, int], strides: Strides, padding: str, dilation: Strides = (1, 1)) -> jax.Array:
    """Pad images [N, H, W, C] so that a VALID filter gives what `padding` asks for: zeros, or the other side for CIRCULAR."""
    axes = [geometry.pads(size, k, s, padding, d) for size, k, s, d in zip(x.shape[1:3], kernel_size, strides, dilation)]
    if not any(map(any, axes)):
        return x
    return jnp.pad(x, ((0, 0), *axes, (0, 0)), mode='wrap' if padding == 'CIRCULAR' else 'constant')


def patches(x: jax.Array, kernel_size: tuple[int, int], strides: Strides = (1, 1), dilation: Strides = (1, 1)) -> jax.Array:
    """What a VALID filter sees at each position: [N, H, W, C] to [N, H', W', kh * kw * C], taps in row-major order.

    Built from shifted slices, first along the rows, so that the second copy moves kw * C numbers at a time.
    """
    (kh, kw), (sh, sw), (dh, dw) = kernel_size, strides, dilation
    rows, columns = ((size - (k - 1) * d - 1) // s + 1 for size, k, s, d in zip(x.shape[1:3], kernel_size, strides, dilation))
    x = jnp.concatenate([x[:, :, b : b + sw * (columns - 1) + 1 : sw] for b in range(0, kw * dw, dw)], axis=-1)
    return jnp.concatenate([x[:, a : a + sh * (rows - 1) + 1 : sh] for a in range(0, kh * dh, dh)], axis=-1)


def shared(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)) -> jax.Array:
    """Convolution (cross-correlation, as in every deep learning library): [N, H, W, C] with kernel [kh, kw, C, F] to [N, H', W', F].

    On a CPU its gradient is a rule of its own, for reverse mode (`grad`, `vjp`, and either over them); `jvp` alone is refused by JAX.

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
    """
    kernel_size = (kernel.shape[0], kernel.shape[1])
    if jax.default_backend() != 'cpu':
        return _xla(pad(x, kernel_size, strides, padding, dilation), kernel, strides, dilation=dilation)
    if strides != (1, 1) or dilation != (1, 1) or kernel_size == (1, 1):
        return _by_patches(pad(x, kernel_size, strides, padding, dilation), kernel, strides, dilation)
    if padding == 'CIRCULAR':
        return _cpu_convolution(pad(x, kernel_size, strides, padding), kernel, ((0, 0), (0, 0)))
    pads = tuple(geometry.pads(size, k, 1, padding) for size, k in zip(x.shape[1:3], kernel_size))
    return _cpu_convolution(x, kernel, pads)


def locally_connected(
    x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)
) -> jax.Array:
    """Unshared convolution: [N, H, W, C] with one kernel per position [H', W', kh, kw, C, F] to [N, H', W', F].

    Positions lead while multiplying (one batched matrix product over positions), which is several times faster than images leading.

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
      ValueError: the kernel has another number of positions than the image.
    """
    rows, columns, kh, kw, channels, features = kernel.shape
    seen = patches(pad(x, (kh, kw), strides, padding, dilation), (kh, kw), strides, dilation)
    if seen.shape[1:3] != (rows, columns):
        raise ValueError(f'kernel for {rows} x {columns} positions, image has {seen.shape[1]} x {seen.shape[2]}')
    by_position = seen.transpose(1, 2, 0, 3)
    flat = kernel.reshape(rows, columns, kh * kw * channels, features)
    return jnp.matmul(by_position, flat, precision=_HIGHEST).transpose(2, 0, 1, 3)


def tiled(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), padding: str = 'SAME', dilation: Strides = (1, 1)) -> jax.Array:
    """Tiled convolution: [N, H, W, C] with kernels that repeat over positions [th, tw, kh, kw, C, F] to [N, H', W', F].

    One matrix product per kernel, over all images and positions that use it (Le et al. 2010).

    Raises:
      InputError: unknown padding, or a kernel larger than the image.
    """
    th, tw, kh, kw, _, features = kernel.shape
    seen = patches(pad(x, (kh, kw), strides, padding, dilation), (kh, kw), strides, dilation)
    n, rows, columns, size = seen.shape
    seen = jnp.pad(seen, ((0, 0), (0, -rows % th), (0, -columns % tw), (0, 0)))  # whole tiles
    down, across = seen.shape[1] // th, seen.shape[2] // tw
    by_kernel = seen.reshape(n, down, th, across, tw, size).transpose(2, 4, 0, 1, 3, 5).reshape(th, tw, -1, size)
    y = jnp.matmul(by_kernel, kernel.reshape(th, tw, size, features), precision=_HIGHEST)
    y = y.reshape(th, tw, n, down, across, features).transpose(2, 3, 0, 4, 1, 5)
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
    y = jnp.matmul(x.reshape(-1, size), kernel.reshape(size, -1), precision=_HIGHEST)
    return y.reshape(-1, *kernel.shape[3:])


def max_pool(x: jax.Array, window: int) -> jax.Array:
    """Maximum over disjoint window x window squares; what does not fill a square at the right and bottom is left out.

    Rows first, then columns, by `maximum` of two at a time: on a CPU its gradient costs a third of that of `lax.reduce_window`.
    """
    n, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window].reshape(n, rows, window, columns * window, channels)
    x = functools.reduce(jnp.maximum, [x[:, :, a] for a in range(window)]).reshape(n, rows, columns, window, channels)
    return functools.reduce(jnp.maximum, [x[:, :, :, b] for b in range(window)])


def place(images: jax.Array | np.ndarray, corners: jax.Array | np.ndarray, canvas: tuple[int, int]) -> jax.Array:
    """Each image [N, h, w, C] on a black canvas [N, H, W, C] with its upper left pixel at `corners` [N, 2] (inside, not checked)."""

    def one(image, corner):
        empty = jnp.zeros((*canvas, image.shape[-1]), image.dtype)
        return lax.dynamic_update_slice(empty, image, (corner[0], corner[1], 0))

    return jax.vmap(one)(images, corners)


def _xla(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), pads='VALID', dilation: Strides = (1, 1)) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_NHWC, precision=_HIGHEST)


def _by_patches(x: jax.Array, kernel: jax.Array, strides: Strides, dilation: Strides = (1, 1)) -> jax.Array:
    kh, kw, channels, features = kernel.shape
    return jnp.matmul(patches(x, (kh, kw), strides, dilation), kernel.reshape(kh * kw * channels, features), precision=_HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _cpu_convolution(x: jax.Array, kernel: jax.Array, pads) -> jax.Array:
    """Stride 1 convolution with zero padding that is fast inside a compiled loop on a CPU (reverse mode only)."""
    if x.shape[-1] >= _FEW_CHANNELS:
        return _xla(x, kernel, pads=pads)

    def product(x):
        return _by_patches(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, (1, 1))

    rest, blocks = _blocks(x)
    if blocks is None:
        return product(rest)
    y = lax.map(product, blocks)
    return jnp.concatenate([y.reshape(-1, *y.shape[2:]), product(rest)])


def _cpu_convolution_forward(x, kernel, pads):
    return _cpu_convolution(x, kernel, pads), (x, kernel)


def _cpu_convolution_backward(pads, saved, g):
    x, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    back = tuple((k - 1 - low, k - 1 - high) for k, (low, high) in zip(kernel.shape, pads))
    return _xla(g, turned, pads=back), _kernel_gradient(x, g, kernel.shape, pads)


def _kernel_gradient(x: jax.Array, g: jax.Array, shape: tuple[int, ...], pads) -> jax.Array:
    """Sum over images and positions of patch times output gradient, as one product per block of images."""

    def gradient(x, g):
        return (_by_all_taps if shape[2] < _FEW_CHANNELS else _by_rows_of_taps)(x, g, shape, pads)

    (rest, x_blocks), (g_rest, g_blocks) = _blocks(x), _blocks(g)
    total = gradient(rest, g_rest)
    if x_blocks is not None:
        total, _ = lax.scan(lambda total, xg: (total + gradient(*xg), None), total, (x_blocks, g_blocks))
    return total.astype(x.dtype)


def _by_all_taps(x: jax.Array, g: jax.Array, shape: tuple[int, ...], pads) -> jax.Array:
    seen = patches(jnp.pad(x, ((0, 0), *pads, (0, 0))), (shape[0], shape[1]))
    return _summed(seen.reshape(-1, seen.shape[-1]).T, g.reshape(-1, shape[3])).reshape(shape)


def _by_rows_of_taps(x: jax.Array, g: jax.Array, shape: tuple[int, ...], pads) -> jax.Array:
    """Lays out only the taps of one filter row (kw copies, not kh * kw).

    The product with kh copies of the output gradient, each moved down by one row more, gives all rows of the filter at once; rows
    of padding are never multiplied.
    """
    kh, kw, channels, features = shape
    height, rows, columns = x.shape[1], g.shape[1], g.shape[2]
    x = jnp.pad(x, ((0, 0), (0, 0), pads[1], (0, 0)))
    row = jnp.concatenate([x[:, :, b : b + columns] for b in range(kw)], axis=-1)

    def moved(down):  # g as rows of x see it: row h of the result is row h - down of g, and black outside
        return lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), (down, height - rows - down, 0), (0, 0, 0), (0, 0, 0)))

    g = jnp.concatenate([moved(a - pads[0][0]) for a in range(kh)], axis=-1)
    product = _summed(row.reshape(-1, kw * channels).T, g.reshape(-1, kh * features))
    return product.reshape(kw, channels, kh, features).transpose(2, 0, 1, 3)


def _summed(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product in at least float32: bfloat16 sums over many images would lose the small terms."""
    return jnp.matmul(a, b, precision=_HIGHEST, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _blocks(a: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The images left over, and the whole blocks [blocks, _BLOCK, ...] (None: none) that a loop takes one by one, in the cache."""
    whole = a.shape[0] // _BLOCK
    blocks = a[: whole * _BLOCK].reshape(whole, _BLOCK, *a.shape[1:]) if whole else None
    return a[whole * _BLOCK :], blocks


_cpu_convolution.defvjp(_cpu_convolution_forward, _cpu_convolution_backward)
