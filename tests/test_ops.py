"""The spatial maps and their gradients against loops over positions and taps, against lax, and against each other."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnn_research import direct, errors, frequency, geometry, lowering, ops, pooling

close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-10)
# LLVM's optimisations, which take most of the time here, are left out; XLA's own, which choose the algorithms, are not.
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})

# images [N, H, W, C], kernel [kh, kw, C, F], strides
CASES = {
    'few_channels': ((19, 6, 7, 3), (3, 2, 3, 4), (1, 1)),
    'many_channels': ((17, 5, 7, 9), (2, 3, 9, 3), (1, 1)),
    'few_channels_strided': ((2, 7, 8, 2), (3, 4, 2, 2), (2, 3)),
    'many_channels_strided': ((2, 7, 6, 8), (3, 3, 8, 2), (2, 1)),
    'blocks_of_few_channels_strided': ((9, 7, 6, 2), (3, 3, 2, 4), (2, 3)),
    'blocks_of_many_channels_strided': ((9, 7, 6, 8), (3, 2, 8, 9), (2, 3)),
}
EDGES = {
    'one_pixel_filter': ((3, 4, 5, 8), (1, 1, 8, 2), (1, 1)),
    'filter_as_large_as_the_image': ((3, 4, 5, 8), (4, 5, 8, 2), (1, 1)),
    'stride_beyond_the_filter': ((3, 7, 8, 8), (2, 2, 8, 2), (3, 3)),
    'one_image_of_one_row': ((1, 1, 9, 8), (1, 4, 8, 1), (1, 1)),
    '16_images': ((16, 5, 5, 8), (3, 3, 8, 2), (1, 1)),
    '16_images_few_channels': ((16, 5, 5, 1), (3, 3, 1, 2), (1, 1)),
    '33_images': ((33, 5, 5, 8), (3, 3, 8, 2), (1, 1)),
}


def normal(seed, *shape):
    """Float64 normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def whole(seed, *shape):
    """Float32 whole numbers, so small that sums of their products are exact in any order."""
    return np.random.default_rng(seed).integers(-8, 9, shape).astype(np.float32)


def pads_of(size, kernel, stride, padding):
    """Pixels before and after one axis, written out here once more."""
    if padding == 'SAME':
        return lax.padtype_to_pads((size,), (kernel,), (stride,), 'SAME')[0]
    half = (kernel - 1) // 2, kernel // 2
    return {'VALID': (0, 0), 'FULL': (kernel - 1, kernel - 1), 'CIRCULAR': half, 'HALF': half}[padding]


def by_hand(x, kernel, strides, padding, cotangent=None):
    """(y, dx, dkernel) of a map with one kernel [kh, kw, C, F], or one per position, by loops over all taps."""
    (height, width), (kh, kw, _, features) = x.shape[1:3], kernel.shape[-4:]
    axes = [(pads_of(*axis, padding), *axis) for axis in zip((height, width), (kh, kw), strides)]
    rows, columns = ((size + sum(pads) - k) // s + 1 for pads, size, k, s in axes)
    kernels = np.broadcast_to(kernel, (rows, columns, *kernel.shape[-4:]))
    y, dx, dk = np.zeros((len(x), rows, columns, features)), np.zeros_like(x), np.zeros(kernels.shape)
    cotangent = y if cotangent is None else cotangent
    for i, j, a, b in itertools.product(range(rows), range(columns), range(kh), range(kw)):
        r, c = i * strides[0] + a - axes[0][0][0], j * strides[1] + b - axes[1][0][0]
        if padding == 'CIRCULAR':
            r, c = r % height, c % width
        elif not (0 <= r < height and 0 <= c < width):
            continue
        y[:, i, j] += x[:, r, c] @ kernels[i, j, a, b]
        dx[:, r, c] += cotangent[:, i, j] @ kernels[i, j, a, b].T
        dk[i, j, a, b] += x[:, r, c].T @ cotangent[:, i, j]
    return y, dx, dk if kernel.ndim == 6 else dk.sum((0, 1))


def by_jax(function, *arguments):
    """(y, dx, dkernel) of a map, compiled."""
    return compiled(functools.partial(with_gradients, function))(*arguments)


def with_gradients(function, x, kernel, cotangent):
    """(y, dx, dkernel) of a map."""
    y, back = jax.vjp(function, x, kernel)
    return y, *back(cotangent)


def check(function, x, kernel, strides, padding):
    """A map and both its gradients equal the loops."""
    cotangent = normal(2, *by_hand(x, kernel, strides, padding)[0].shape)
    expected = by_hand(x, kernel, strides, padding, cotangent)
    for got, wanted in zip(by_jax(function, x, kernel, cotangent), expected):
        assert got.dtype == np.float64 and got.shape == wanted.shape
        close(got, wanted)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize('case', CASES)
def test_shared_and_its_gradients_are_sums_over_taps(case, padding, x64):
    images, filters, strides = CASES[case]
    function = functools.partial(ops.shared, strides=strides, padding=padding)
    check(function, normal(0, *images), normal(1, *filters), strides, padding)


@pytest.mark.parametrize('case', EDGES)
def test_shared_at_the_edges_of_its_range(case, x64):
    images, filters, strides = EDGES[case]
    function = functools.partial(ops.shared, strides=strides, padding='SAME')
    check(function, normal(0, *images), normal(1, *filters), strides, 'SAME')


@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_shared_and_its_gradients_are_those_of_lax(padding, x64):
    x, kernel = normal(0, 18, 6, 5, 8), normal(1, 3, 2, 8, 4)
    axes = ((0, 0), *(pads_of(size, k, 1, padding) for size, k in zip((6, 5), (3, 2))), (0, 0))

    def reference(x, kernel):
        x = jnp.pad(x, axes, mode='wrap' if padding == 'CIRCULAR' else 'constant')
        return lax.conv_general_dilated(x, kernel, (1, 1), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    cotangent = normal(2, *jax.eval_shape(reference, x, kernel).shape)
    expected = by_jax(reference, x, kernel, cotangent)
    for got, wanted in zip(by_jax(functools.partial(ops.shared, padding=padding), x, kernel, cotangent), expected):
        close(got, wanted)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize('strides', [(1, 1), (2, 3)], ids=['stride_1', 'strided'])
def test_locally_connected_and_its_gradients_are_sums_over_taps(strides, padding, x64):
    x = normal(0, 3, 6, 7, 2)
    positions = by_hand(x, np.zeros((3, 2, 2, 4)), strides, padding)[0].shape[1:3]
    function = functools.partial(ops.locally_connected, strides=strides, padding=padding)
    check(function, x, normal(1, *positions, 3, 2, 2, 4), strides, padding)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize('at_once', [1, 2], ids=['row_by_row', 'two_rows'])
def test_locally_connected_is_the_same_some_rows_at_a_time(at_once, padding, x64, monkeypatch):
    strides = (2, 1)
    x = normal(0, 3, 8, 5, 2)
    positions = by_hand(x, np.zeros((3, 2, 2, 4)), strides, padding)[0].shape[1:3]
    monkeypatch.setattr(ops, '_PATCH_BYTES', at_once * 3 * positions[1] * 3 * 2 * 2 * 8)
    function = functools.partial(ops.locally_connected, strides=strides, padding=padding)
    assert 'scan' in str(jax.make_jaxpr(function)(x, normal(1, *positions, 3, 2, 2, 4)))
    check(function, x, normal(1, *positions, 3, 2, 2, 4), strides, padding)


@pytest.mark.parametrize('channels', [2, 8])
@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_the_shared_map_is_the_local_map_with_tied_kernels(padding, channels, x64):
    x, kernel = normal(0, 3, 5, 6, channels), normal(1, 3, 2, channels, 4)
    shared = functools.partial(ops.shared, padding=padding)
    local = functools.partial(ops.locally_connected, padding=padding)
    cotangent = normal(2, *jax.eval_shape(shared, x, kernel).shape)
    tied = np.broadcast_to(kernel, (*cotangent.shape[1:3], *kernel.shape))
    y, dx, dk = by_jax(shared, x, kernel, cotangent)
    local_y, local_dx, local_dk = by_jax(local, x, tied, cotangent)
    close(local_y, y)
    close(local_dx, dx)
    close(local_dk.sum((0, 1)), dk)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_the_shared_map_is_a_dense_map_with_the_matrix_of_the_convolution(padding, x64):
    x, kernel = normal(0, 3, 4, 5, 2), normal(1, 3, 2, 2, 3)
    pixels = np.eye(4 * 5 * 2).reshape(-1, 4, 5, 2)  # one image for each pixel and channel
    y, _, _ = by_hand(pixels, kernel, (1, 1), padding)
    matrix = y.reshape(4, 5, 2, *y.shape[1:])
    maps = compiled(lambda x, kernel: (ops.dense(x, matrix), ops.shared(x, kernel, padding=padding)))
    close(*maps(x, kernel))


def test_dense_and_its_gradients_are_sums_over_pixels(x64):
    x, kernel, cotangent = normal(0, 3, 4, 5, 2), normal(1, 4, 5, 2, 3, 2, 6), normal(2, 3, 3, 2, 6)
    y, dx, dk = by_jax(ops.dense, x, kernel, cotangent)
    close(y, np.einsum('nhwc,hwcijf->nijf', x, kernel))
    close(dx, np.einsum('nijf,hwcijf->nhwc', cotangent, kernel))
    close(dk, np.einsum('nhwc,nijf->hwcijf', x, cotangent))


@pytest.mark.parametrize('window', [1, 2, 3])
def test_max_pool_and_its_gradient_are_those_of_reduce_window(window):
    x = np.random.default_rng(0).permutation(2 * 7 * 8 * 3).reshape(2, 7, 8, 3).astype(np.float32)  # free of ties

    def reference(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, window, window, 1), 'VALID')

    def both(pool, x):
        y, back = jax.vjp(pool, x)
        return y, back(1 + jnp.arange(y.size, dtype=y.dtype).reshape(y.shape))[0]

    own, expected = compiled(lambda x: (both(lambda x: pooling.maximum(x, window, False), x), both(reference, x)))(x)
    assert expected[0].shape == (2, 7 // window, 8 // window, 3)
    for got, wanted in zip(own, expected):
        np.testing.assert_array_equal(got, wanted)


def test_patches_are_the_windows_in_row_major_order():
    x = whole(0, 2, 6, 7, 3)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (1, 2))[:, ::2, ::3]  # [N, H', W', C, kh, kw]
    expected = windows.transpose(0, 1, 2, 4, 5, 3).reshape(*windows.shape[:3], -1)
    np.testing.assert_array_equal(direct.patches(x, (3, 2), (2, 3)), expected)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_pad_adds_zeros_or_the_other_side(padding):
    x = 1 + np.arange(2 * 5 * 6, dtype=np.float32).reshape(2, 5, 6, 1)
    axes = [pads_of(size, k, s, padding) for size, k, s in zip((5, 6), (4, 3), (2, 1))]
    expected = np.pad(x, ((0, 0), *axes, (0, 0)), mode='wrap' if padding == 'CIRCULAR' else 'constant')
    np.testing.assert_array_equal(direct.pad(x, (4, 3), (2, 1), padding), expected)


@pytest.mark.parametrize('channels', [2, 8])
def test_training_inside_a_compiled_loop_is_training_step_by_step(channels, x64):
    x, kernel = normal(0, 18, 5, 5, channels), normal(1, 3, 3, channels, 2)

    def update(_, kernel):
        return kernel - 0.01 * jax.grad(lambda k: jnp.sum(jnp.square(ops.shared(x, k))))(kernel)

    expected = kernel
    for _ in range(3):
        expected = expected - 0.02 * by_hand(x, expected, (1, 1), 'SAME', by_hand(x, expected, (1, 1), 'SAME')[0])[2]
    close(compiled(lambda k: lax.fori_loop(0, 3, update, k))(kernel), expected, rtol=1e-8)


@pytest.mark.parametrize('channels', [2, 8])
def test_vmap_over_kernels_and_images_is_one_after_the_other(channels, x64):
    xs, kernels, cotangent = normal(0, 3, 2, 5, 6, channels), normal(1, 3, 3, 2, channels, 4), normal(2, 2, 5, 6, 4)

    gradients = functools.partial(with_gradients, ops.shared, cotangent=cotangent)
    for axes, images in (((0, 0), xs), ((None, 0), xs[[0, 0, 0]])):
        expected = [by_hand(x, kernel, (1, 1), 'SAME', cotangent) for x, kernel in zip(images, kernels)]
        got = compiled(jax.vmap(gradients, axes))(images if axes[0] == 0 else images[0], kernels)
        for own, wanted in zip(got, zip(*expected)):
            close(own, np.stack(wanted))


@pytest.mark.parametrize('channels', [1, 8])
@pytest.mark.parametrize('shift', [(1, 0), (2, 3), (-1, 4)], ids=str)
def test_shared_filters_commute_with_circular_shifts(shift, channels):
    """Exactly by sums over taps, for sums of whole numbers have no rounding; up to rounding by frequencies."""
    x, kernel, g = whole(0, 3, 6, 7, channels), whole(1, 3, 4, channels, 5), geometry.Geometry((6, 7), (3, 4), padding='CIRCULAR')
    moved = np.roll(x, shift, (1, 2))
    for way in ('blocks', 'patches', 'xla'):
        y, y_moved = (lowering.WAYS[way](x, kernel, g) for x in (x, moved))
        np.testing.assert_array_equal(y_moved, np.roll(y, shift, (1, 2)))
        assert (np.roll(y, shift, (1, 2)) != y).mean() > 0.9
    np.testing.assert_allclose(frequency.convolution(moved, kernel, g), np.roll(y, shift, (1, 2)), atol=1e-6 * np.abs(y).max())


def test_local_filters_do_not_commute_with_circular_shifts():
    x, kernel = whole(0, 3, 6, 7, 2), whole(1, 6, 7, 3, 3, 2, 5)
    y, shifted = (ops.locally_connected(x, kernel, padding='CIRCULAR') for x in (x, np.roll(x, (1, 2), (1, 2))))
    assert (shifted != np.roll(y, (1, 2), (1, 2))).mean() > 0.9


def test_what_does_not_fit_is_refused():
    x = np.zeros((1, 4, 5, 2), np.float32)
    for channels in (2, 8):
        with pytest.raises(errors.InputError, match='known: VALID, SAME, CIRCULAR, FULL'):
            ops.shared(np.zeros((1, 4, 5, channels)), np.zeros((3, 3, channels, 1)), padding='REFLECT')
        with pytest.raises(errors.InputError, match='kernel of 5 is larger than its input of 4'):
            ops.shared(np.zeros((1, 4, 5, channels)), np.zeros((5, 5, channels, 1)))
    with pytest.raises(errors.InputError, match='kernel of 5 is larger'):
        ops.locally_connected(x, np.zeros((4, 5, 5, 5, 2, 1)))
    with pytest.raises(ValueError, match='kernel for 4 x 4 positions, image has 4 x 5'):
        ops.locally_connected(x, np.zeros((4, 4, 3, 3, 2, 1)))
    with pytest.raises(ValueError, match=r'kernel for images of \(4, 4, 2\), got \(4, 5, 2\)'):
        ops.dense(x, np.zeros((4, 4, 2, 4, 5, 1)))
