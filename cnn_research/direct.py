"""Convolution as sums over taps: XLA's own, patches times a matrix, and a rule for CPUs that lays out patches for few images at a time.

`patches` are what a filter sees at each position. The rule's kernel gradient multiplies them in blocks of images that stay in the cache,
for XLA's own kernel gradient is many times slower inside a compiled loop than outside it.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from cnn_research import geometry
from cnn_research.geometry import Geometry

Strides = tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]
HIGHEST = lax.Precision.HIGHEST  # true float32: accelerators would otherwise use TF32 or bfloat16 products
_NHWC = ('NHWC', 'HWIO', 'NHWC')
_BLOCK = 4  # images whose patches are laid out at once: they stay in the cache
_FEW_CHANNELS = 8  # below this, XLA's CPU convolution loses to patches and a matrix product


def pad(x: jax.Array, kernel_size: tuple[int, int], strides: Strides, padding: str, dilation: Strides = (1, 1)) -> jax.Array:
    """Pad images [N, H, W, C] so that a VALID filter gives what `padding` asks for: zeros, or the other side for CIRCULAR."""
    axes = [geometry.pads(size, k, s, padding, d) for size, k, s, d in zip(x.shape[1:3], kernel_size, strides, dilation)]
    if not any(map(any, axes)):
        return x
    return jnp.pad(x, ((0, 0), *axes, (0, 0)), mode='wrap' if padding == 'CIRCULAR' else 'constant')


def patches(
    x: jax.Array, kernel_size: tuple[int, int], strides: Strides = (1, 1), dilation: Strides = (1, 1), axes: tuple[int, int] = (1, 2)
) -> jax.Array:
    """What a VALID filter sees at each position: [N, H, W, C] to [N, H', W', kh * kw * C], taps in row-major order.

    axes: where rows and columns stand, (0, 1) for [H, W, N, C]. Built from shifted slices, first along the rows, so that the second copy
    moves kw * C numbers at a time.
    """
    for axis, k, s, d in reversed([*zip(axes, kernel_size, strides, dilation)]):
        positions, size = (x.shape[axis] - (k - 1) * d - 1) // s + 1, x.shape[axis]
        # The pixels s apart are one column of whole rows of s, so that no slice takes steps.
        rows = jnp.pad(x, [(0, -size % s if other == axis else 0) for other in range(x.ndim)])
        rows = rows.reshape(*x.shape[:axis], -(-size // s), s, *x.shape[axis + 1 :])
        seen = [lax.slice_in_dim(rows, tap // s, tap // s + positions, axis=axis) for tap in range(0, k * d, d)]
        x = jnp.concatenate([lax.index_in_dim(a, i * d % s, axis + 1, keepdims=False) for i, a in enumerate(seen)], axis=-1)
    return x


def by_xla(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
    """XLA's own convolution."""
    x = pad(x, g.kernel_size, g.strides, g.padding, g.dilation)
    return _xla(x, kernel, g.strides, dilation=g.dilation)


def by_patches(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
    """Patches of all images times the kernel as a matrix: for dilation."""
    return _product(pad(x, g.kernel_size, g.strides, g.padding, g.dilation), kernel, g.strides, g.dilation)


def by_blocks(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
    """No dilation: fast inside a compiled loop on a CPU (reverse mode only). XLA's forward from 8 channels on, blocks below."""
    if g.padding == 'CIRCULAR':
        return _cpu_convolution(pad(x, g.kernel_size, g.strides, g.padding), kernel, g.strides, ((0, 0), (0, 0)))
    return _cpu_convolution(x, kernel, g.strides, g.pads)


def _xla(x: jax.Array, kernel: jax.Array, strides: Strides = (1, 1), pads='VALID', dilation: Strides = (1, 1)) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_NHWC, precision=HIGHEST)


def _product(x: jax.Array, kernel: jax.Array, strides: Strides, dilation: Strides = (1, 1)) -> jax.Array:
    kh, kw, channels, features = kernel.shape
    return jnp.matmul(patches(x, (kh, kw), strides, dilation), kernel.reshape(kh * kw * channels, features), precision=HIGHEST)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _cpu_convolution(x: jax.Array, kernel: jax.Array, strides: Strides, pads: Pads) -> jax.Array:
    def few_channels(x):
        return _product(jnp.pad(x, ((0, 0), *pads, (0, 0))), kernel, strides)

    def more_channels(x):
        return _xla(x, kernel, strides, pads)

    if x.shape[-1] < _FEW_CHANNELS:
        return _by_block(few_channels, x)
    return more_channels(x) if strides == (1, 1) else _by_block(more_channels, x)  # XLA is twice as fast at few strided images


def _cpu_convolution_forward(x, kernel, strides, pads):
    return _cpu_convolution(x, kernel, strides, pads), (x, kernel)


def _cpu_convolution_backward(strides, pads, saved, g):
    x, kernel = saved
    return _image_gradient(g, kernel, x.shape, strides, pads), _kernel_gradient(x, g, kernel.shape, strides, pads)


def _image_gradient(g: jax.Array, kernel: jax.Array, shape: tuple[int, ...], strides: Strides, pads: Pads) -> jax.Array:
    """A convolution of stride 1 with the turned kernel, that makes squares of strides[0] x strides[1] pixels at once.

    (The transpose of a strided convolution, as JAX derives it, spreads the output gradient with zeros, which XLA's CPU convolution
    multiplies one by one.)
    """
    kh, kw, channels, features = kernel.shape
    (sh, sw), (th, tw) = strides, (-(-k // s) for k, s in zip((kh, kw), strides))  # taps, in squares
    kernel = jnp.pad(kernel, ((0, th * sh - kh), (0, tw * sw - kw), (0, 0), (0, 0)))
    turned = kernel.reshape(th, sh, tw, sw, channels, features)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    turned = turned.reshape(th, tw, features, sh * sw * channels)
    starts, back = [], []  # where in the first square the image starts; pads that make the squares of the image and no others
    for size, positions, s, t, (low, _) in zip(shape[1:3], g.shape[1:3], strides, (th, tw), pads):
        starts.append(low % s)
        back.append((t - 1 - low // s, (low + size - 1) // s + 1 - positions))
    dx = _xla(g, turned, pads=tuple(back))
    n, down, across = dx.shape[:3]
    dx = dx.reshape(n, down, across, sh, sw, channels).transpose(0, 1, 3, 2, 4, 5).reshape(n, down * sh, across * sw, channels)
    return dx[:, starts[0] : starts[0] + shape[1], starts[1] : starts[1] + shape[2]]


def _kernel_gradient(x: jax.Array, g: jax.Array, shape: tuple[int, ...], strides: Strides, pads: Pads) -> jax.Array:
    """Sum over images and positions of patch times output gradient, as one product per block of images."""

    def gradient(x, g):
        if strides != (1, 1) or shape[2] < _FEW_CHANNELS:
            return _by_all_taps(x, g, shape, strides, pads)
        return _by_rows_of_taps(x, g, shape, pads)

    (rest, x_blocks), (g_rest, g_blocks) = _blocks(x), _blocks(g)
    total = gradient(rest, g_rest)
    if x_blocks is not None:
        total, _ = lax.scan(lambda total, xg: (total + gradient(*xg), None), total, (x_blocks, g_blocks))
    return total.astype(x.dtype)


def _by_all_taps(x: jax.Array, g: jax.Array, shape: tuple[int, ...], strides: Strides, pads: Pads) -> jax.Array:
    seen = patches(jnp.pad(x, ((0, 0), *pads, (0, 0))), (shape[0], shape[1]), strides)
    return _summed(seen.reshape(-1, seen.shape[-1]), g.reshape(-1, shape[3])).reshape(shape)


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
    product = _summed(row.reshape(-1, kw * channels), g.reshape(-1, kh * features))
    return product.reshape(kw, channels, kh, features).transpose(2, 0, 1, 3)


def _summed(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b in at least float32: bfloat16 sums over many images would lose the small terms. [P, M], [P, N] to [M, N].

    The wider one stands last, whose rows a CPU's product reads.
    """
    if a.shape[1] > b.shape[1]:
        return _summed(b, a).T
    return jnp.matmul(a.T, b, precision=HIGHEST, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _by_block(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """What `function` makes of the images, block after block."""
    rest, blocks = _blocks(x)
    if blocks is None:
        return function(rest)
    y = lax.map(function, blocks)
    return jnp.concatenate([y.reshape(-1, *y.shape[2:]), function(rest)])


def _blocks(a: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """The images left over, and the whole blocks [blocks, _BLOCK, ...] (None: none) that a loop takes one by one, in the cache."""
    whole = a.shape[0] // _BLOCK
    blocks = a[: whole * _BLOCK].reshape(whole, _BLOCK, *a.shape[1:]) if whole else None
    return a[whole * _BLOCK :], blocks


_cpu_convolution.defvjp(_cpu_convolution_forward, _cpu_convolution_backward)
