"""Convolution as products of frequencies, by matrix products alone.

    y[o] = sum_a x[o + t_a] k[a]        becomes        Y(u, v) = X(u, v) conj(K(u, v))

on a circle of P x Q pixels, just large enough that nothing wraps round into what is read (where the padding is circular, the image's own
size). The transforms are products with small matrices of cosines and sines, first along the rows (real numbers, so P // 2 + 1
frequencies), then along the columns. At the sizes of networks that costs less than a fast Fourier transform, and no array has to be
rearranged on the way. A complex product takes three real ones (Gauss): p = (Re, Im, Re + Im) of X times q = (Re, Im, Re - Im) of K, whose
sums are folded into the matrices. So all three maps of training are one bilinear form,

    y = C^T (A x * B k)        dx = A^T (C dy * B k)        dk = B^T (A x * C dy)

with A, B and C for the places of the inputs, taps and outputs. A stride is where outputs lie, a dilation where taps lie: both are free.
A pixel costs about 1.5 products per channel and feature, whatever the size of the filter, which for k x k taps would be k * k.

Sources: Mathieu, Henaff and LeCun (2014), Fast training of convolutional networks through FFTs, section 2, for the three products in
frequencies; Winograd (1980), Arithmetic complexity of computations, for the form.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_research.direct import HIGHEST, pad
from cnn_research.geometry import Geometry


class Transform(NamedTuple):
    """Pixels [h, w] to U x V complex frequencies: matrices [U * 2, h] and, for every u, [V * 3, 2 * w]."""

    rows: np.ndarray
    columns: np.ndarray


def _axis(g: Geometry, axis: int) -> tuple[int, dict[str, np.ndarray]]:
    """The length of the circle, and the pixels where inputs, taps (relative to an output) and outputs lie."""
    low, size = g.pads[axis][0], g.image[axis]
    taps = np.arange(g.kernel_size[axis]) * g.dilation[axis] - low
    outputs = np.arange(g.positions[axis]) * g.strides[axis]
    circle = size if g.padding == 'CIRCULAR' else max(size + low, int(outputs[-1] + taps[-1]) + 1)
    return circle, {'inputs': np.arange(size), 'taps': taps, 'outputs': outputs}


@functools.cache
def transforms(g: Geometry) -> dict[str, Transform]:
    """The matrices A, B and C, by 'inputs', 'taps' and 'outputs', in float64."""
    (height, rows), (width, columns) = (_axis(g, axis) for axis in (0, 1))
    u, v = np.arange(height // 2 + 1), np.arange(width)
    # The frequencies that are left out are the conjugates of those there.
    share = np.where((u == 0) | (2 * u == height), 1.0, 2.0)[:, None] / height
    result = {}
    for name in rows:
        down, across = (2 * np.pi * np.outer(f, at) / size for f, at, size in ((u, rows[name], height), (v, columns[name], width)))
        real = np.stack([np.cos(across), np.sin(across)], axis=1)  # of (Re, Im) [V, 2, w]
        imaginary = np.stack([-np.sin(across), np.cos(across)], axis=1)
        if name == 'inputs':
            points = [real, imaginary, real + imaginary]
        elif name == 'taps':
            points = [real, imaginary, real - imaginary]
        else:  # Re = p1 q1 + p2 q2, Im = p3 q3 - p1 q1 + p2 q2
            points = [(real - imaginary) / width, (real + imaginary) / width, imaginary / width]
        first = np.stack([np.cos(down), -np.sin(down)], axis=1) * (share[:, None] if name == 'outputs' else 1.0)
        result[name] = Transform(first.reshape(2 * len(u), -1), np.stack(points, axis=1).reshape(3 * len(v), -1))
    return result


def _forward(t: Transform, z: jax.Array) -> jax.Array:
    """Arrays over pixels [h, w, M] to their points [U, V * 3, M]."""
    h, w, m = z.shape
    z = jnp.matmul(t.rows.astype(z.dtype), z.reshape(h, w * m), precision=HIGHEST).reshape(-1, 2 * w, m)
    return jnp.matmul(_repeated(t.columns, z), z, precision=HIGHEST)


def _backward(t: Transform, z: jax.Array) -> jax.Array:
    """The transposed matrices: points [U, V * 3, M] to arrays over pixels [h, w, M]."""
    z = jnp.matmul(_repeated(t.columns.T, z), z, precision=HIGHEST)
    return jnp.matmul(t.rows.T.astype(z.dtype), z.reshape(len(t.rows), -1), precision=HIGHEST).reshape(t.rows.shape[1], -1, z.shape[-1])


def _repeated(matrix: np.ndarray, z: jax.Array) -> jax.Array:
    return jnp.broadcast_to(matrix.astype(z.dtype), (len(z), *matrix.shape))


def _points(t: Transform, images: jax.Array) -> jax.Array:
    """The points of [N, h, w, C] as [points, N, C]."""
    n, h, w, c = images.shape
    return _forward(t, images.transpose(1, 2, 0, 3).reshape(h, w, n * c)).reshape(-1, n, c)


def _images(t: Transform, points: jax.Array) -> jax.Array:
    """[points, N, C] to [N, h, w, C] by the transposed matrices."""
    n, c = points.shape[1:]
    z = _backward(t, points.reshape(len(t.rows) // 2, -1, n * c))
    return z.reshape(*z.shape[:2], n, c).transpose(2, 0, 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolution(x: jax.Array, kernel: jax.Array, g: Geometry) -> jax.Array:
    """Images [N, H, W, C] with kernel [kh, kw, C, F] to maps [N, H', W', F] (reverse mode only)."""
    return _convolution_forward(x, kernel, g)[0]


def _convolution_forward(x, kernel, g):
    kh, kw, channels, features = kernel.shape
    t = transforms(g)
    p = _points(t['inputs'], x)
    q = _forward(t['taps'], kernel.reshape(kh, kw, -1)).reshape(-1, channels, features)
    y = _images(t['outputs'], jnp.matmul(p, q, precision=HIGHEST))
    return jnp.where(_sees_anything(x, g), y, 0), (p, q)


def _sees_anything(x: jax.Array, g: Geometry) -> jax.Array:
    """Where a filter sees any number but zero, bool [N, H', W', 1].

    Elsewhere the map is exactly zero, as by taps, and not zero up to rounding: a ReLU that follows must not take either side of it.
    """
    seen = pad(jnp.any(x != 0, axis=-1, keepdims=True), g.kernel_size, g.strides, g.padding, g.dilation)
    for axis in (1, 2):
        window, strides, dilation = ([1, 1, 1, 1] for _ in range(3))
        window[axis], strides[axis], dilation[axis] = g.kernel_size[axis - 1], g.strides[axis - 1], g.dilation[axis - 1]
        seen = lax.reduce_window(seen, False, lax.bitwise_or, window, strides, 'VALID', window_dilation=dilation)
    return seen


def _convolution_backward(g, saved, cotangent):
    p, q = saved
    t = transforms(g)
    r = _points(t['outputs'], cotangent)
    dx = _images(t['inputs'], jnp.einsum('pnf,pcf->pnc', r, q, precision=HIGHEST))
    products = jnp.einsum('pnc,pnf->pcf', p, r, precision=HIGHEST)
    dk = _backward(t['taps'], products.reshape(len(t['taps'].rows) // 2, -1, q.shape[1] * q.shape[2]))
    return dx, dk.reshape(*g.kernel_size, *q.shape[1:])


convolution.defvjp(_convolution_forward, _convolution_backward)
