"""The axis of sharing: every fast path is its expansion, applied position by position, and a dense matrix product; so are its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnn_research import errors, ops, schemes, sharing
from cnn_research.geometry import PADDINGS, Geometry

NAMES = (
    'shared', 'coordinates', 'tiled:2x1', 'tiled:2x3', 'low_rank:3', 'low_rank:2:row_column', 'low_rank:2:free',
    'low_rank:3:row_column:free', 'averaged:2', 'local', 'masked_dense', 'dense',
)  # fmt: skip
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiles faster
slow_draws = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@st.composite
def geometries(draw, dilations=2):
    """Rectangular images and kernels, even ones too, with strides from 1 to 3 and every padding."""
    image = draw(st.tuples(*[st.integers(1, 7)] * 2))
    kernel = tuple(draw(st.integers(1, min(4, size))) for size in image)
    dilation = tuple(draw(st.integers(1, min(dilations, (size - 1) // (k - 1)) if k > 1 else 1)) for size, k in zip(image, kernel))
    strides = draw(st.tuples(*[st.integers(1, 3)] * 2))
    return Geometry(image, kernel, strides, draw(st.sampled_from(PADDINGS)), dilation)


def fitting(name, g):
    """The scheme, a tiled one with no longer period than there are positions."""
    scheme = schemes.parse(name)
    if isinstance(scheme, schemes.Tiled):
        scheme = schemes.Tiled(tuple(min(t, size) for t, size in zip(scheme.period, g.positions)))
    return scheme


def random_params(scheme, g, channels, features, dtype, seed=0):
    """Normal parameters of a layer."""
    rng = np.random.default_rng(seed)
    shapes = scheme.shapes(g, channels, features)
    return {name: jnp.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}


def three_ways(scheme, g, params, x):
    """The maps by the fast path, by one kernel per position, and by one matrix product."""
    fast = sharing.apply(scheme, g, params, x)
    if type(scheme) is schemes.Dense:
        kernel = params['kernel']
        return fast, jnp.einsum('nhwc,hwcijf->nijf', x, kernel, precision='highest'), fast
    kernel = sharing.expand(scheme, g, params)
    extra = sharing.coordinate_bias(g, params) if 'coordinates' in params else 0
    plain = ops.locally_connected(x, kernel, g.strides, g.padding, g.dilation) + extra
    matrix = sharing.matrix(g, kernel)
    inputs = x.shape[1] * x.shape[2] * x.shape[3]
    product = jnp.matmul(x.reshape(len(x), inputs), matrix.reshape(inputs, -1), precision='highest')
    return fast, plain, product.reshape(plain.shape) + extra


def with_gradients(which, scheme, g, params, x, cotangent):
    y, back = jax.vjp(lambda params, x: three_ways(scheme, g, params, x)[which], params, x)
    return y, *back(cotangent)


def check_three_ways(name, g, channels, features, images, dtype, within):
    scheme = fitting(name, g)
    params, rng = random_params(scheme, g, channels, features, dtype), np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(images, *g.image, channels)), dtype)
    cotangent = jnp.asarray(rng.normal(size=(images, *g.positions, features)), dtype)

    def all_ways(params, x, cotangent):
        return [with_gradients(which, scheme, g, params, x, cotangent) for which in range(3)]

    fast, plain, product = compiled(all_ways)(params, x, cotangent)
    for other in (plain, product):
        for got, wanted in zip(jax.tree.leaves(fast), jax.tree.leaves(other)):
            assert got.dtype == dtype and got.shape == wanted.shape
            np.testing.assert_allclose(got, wanted, rtol=0, atol=within * max(1e-30, np.abs(wanted).max()))


@pytest.mark.slow
@pytest.mark.parametrize('name', NAMES)
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=slow_draws)
@given(g=geometries(), channels=st.sampled_from([1, 2, 8]), features=st.integers(1, 3), images=st.sampled_from([1, 2, 9]))
def test_a_fast_path_and_its_gradients_are_the_plain_ones_in_float64(x64, name, g, channels, features, images):
    check_three_ways(name, g, channels, features, images, np.float64, 1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['shared', 'tiled:2x3', 'low_rank:2:row_column', 'local', 'masked_dense', 'dense'])
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=slow_draws)
@given(g=geometries(), channels=st.sampled_from([1, 8]), features=st.integers(1, 3))
def test_a_fast_path_and_its_gradients_are_the_plain_ones_in_float32(name, g, channels, features):
    check_three_ways(name, g, channels, features, 3, np.float32, 1e-5)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(g=geometries())
def test_a_matrix_has_each_tap_where_it_lies(g):
    kernel = np.arange(1, 1 + np.prod(g.positions) * g.taps).reshape(*g.positions, *g.kernel_size, 1, 1).astype(np.float32)
    expected = np.zeros((*g.image, 1, *g.positions, 1))
    for i, j, a, b in np.ndindex(kernel.shape[:4]):
        pixel = [p * s + t * d - low for p, s, t, d, (low, _) in zip((i, j), g.strides, (a, b), g.dilation, g.pads)]
        if g.padding == 'CIRCULAR':
            pixel = [p % size for p, size in zip(pixel, g.image)]
        if all(0 <= p < size for p, size in zip(pixel, g.image)):
            expected[pixel[0], pixel[1], 0, i, j, 0] = kernel[i, j, a, b, 0, 0]
    matrix = compiled(functools.partial(sharing.matrix, g))(kernel)
    np.testing.assert_array_equal(matrix, expected)
    np.testing.assert_array_equal(np.asarray(sharing.locality_mask(g))[:, :, 0, :, :, 0], expected[:, :, 0, :, :, 0] != 0)
    np.testing.assert_array_equal(sharing.under_filter(g, matrix), np.where(g.mask()[..., None, None], kernel, 0))
    assert np.count_nonzero(expected) == g.connected


@pytest.mark.parametrize('padding', ['SAME', 'CIRCULAR'])
@pytest.mark.parametrize('name', ['shared', 'tiled:2x3'])
def test_a_tied_gradient_is_the_sum_of_local_gradients(name, padding, x64):
    g, scheme = Geometry((7, 8), (3, 2), (1, 1), padding), schemes.parse(name)
    params = random_params(scheme, g, 2, 3, np.float64)
    x, cotangent = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate([(4, 7, 8, 2), (4, *g.positions, 3)]))
    (tied,) = jax.vjp(lambda k: sharing.apply(scheme, g, {'kernel': k}, x), params['kernel'])[1](cotangent)
    local = jax.vjp(lambda k: ops.locally_connected(x, k, padding=padding), sharing.expand(scheme, g, params))[1](cotangent)[0]
    th, tw = getattr(scheme, 'period', (1, 1))
    summed = np.array([[local[i::th, j::tw].sum((0, 1)) for j in range(tw)] for i in range(th)])
    np.testing.assert_allclose(tied, summed.reshape(tied.shape), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('padding', ['SAME', 'VALID', 'FULL'])
def test_coordinates_are_two_channels_more(padding, x64):
    g, scheme = Geometry((5, 8), (3, 2), (2, 1), padding), schemes.parse('coordinates')
    params, x = random_params(scheme, g, 2, 3, np.float64), np.random.default_rng(0).normal(size=(4, 5, 8, 2))
    rows, columns = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 8), indexing='ij')
    wider = np.concatenate([x, np.broadcast_to(rows, (4, 5, 8))[..., None], np.broadcast_to(columns, (4, 5, 8))[..., None]], axis=-1)
    kernel = np.concatenate([params['kernel'], params['coordinates']], axis=2)
    expected = ops.shared(wider, kernel, g.strides, padding)
    np.testing.assert_allclose(sharing.apply(scheme, g, params, x), expected, rtol=1e-10, atol=1e-10)


def starting_deviation(name, g, channels, features, x):
    """Output deviation over 20 initial draws, at positions that see no padding."""
    scheme, init = schemes.parse(name), nn.initializers.lecun_normal()
    shapes = scheme.shapes(g, channels, features)
    interior = g.mask().all((2, 3))

    def once(key):
        starts = sharing.initializers(scheme, g, init)
        keys = dict(zip(shapes, jax.random.split(key, len(shapes))))
        params = {n: starts[n](keys[n], shape, jnp.float32) for n, shape in shapes.items()}
        return sharing.apply(scheme, g, params, x)[:, interior]

    return float(jnp.std(compiled(lambda keys: jax.lax.map(once, keys))(jax.random.split(jax.random.key(1), 20))))


@pytest.mark.slow
@pytest.mark.parametrize(('channels', 'features', 'image'), [(3, 64, (8, 7))])
def test_all_schemes_start_with_the_deviation_of_the_convolution(channels, features, image):
    g = Geometry(image, (3, 3))
    x = np.random.default_rng(0).normal(size=(24, *image, channels)).astype(np.float32)
    expected = starting_deviation('shared', g, channels, features, x)
    for name in NAMES:
        assert starting_deviation(name, g, channels, features, x) == pytest.approx(expected, rel=0.03), name


@pytest.mark.parametrize('name', NAMES)
def test_a_scheme_is_read_by_its_name(name):
    assert schemes.parse(name).name == name
    assert hash(schemes.parse(name)) == hash(schemes.parse(name))


@pytest.mark.parametrize('name', ['tiled', 'tiled:0x2', 'tiled:2', 'low_rank', 'low_rank:0', 'low_rank:2:free:row_column', 'local:2'])
def test_an_unknown_scheme_lists_the_known(name):
    with pytest.raises(errors.InputError, match=r'known: shared, coordinates, tiled:HxW, low_rank:K.*, dense'):
        schemes.parse(name)


def test_a_period_longer_than_the_positions_is_refused():
    with pytest.raises(errors.InputError, match='tiled:5x1 has a longer period than the 4 x 9 positions: use a shorter one, or local'):
        schemes.parse('tiled:5x1').shapes(Geometry((4, 9), (3, 3)), 1, 1)


@pytest.mark.parametrize('padding', ['SAME', 'VALID'])
def test_sharing_in_time_sets_kernels_to_their_mean_over_connected_positions(padding):
    g, scheme = Geometry((5, 4), (3, 2), padding=padding), schemes.parse('averaged:3')
    params = random_params(scheme, g, 2, 3, np.float32)
    after = [sharing.after_step(scheme, g, params, jnp.int32(step))['kernel'] for step in (1, 2, 3, 4, 6)]
    for kernel in (after[0], after[1], after[3]):
        np.testing.assert_array_equal(kernel, params['kernel'])
    mask, kernel = g.mask(), np.asarray(params['kernel'])
    for a, b in np.ndindex(3, 2):
        expected = kernel[:, :, a, b][mask[:, :, a, b]].mean(0)
        for shared in (after[2], after[4]):
            tap = np.asarray(shared)[:, :, a, b]
            np.testing.assert_allclose(tap, np.broadcast_to(expected, tap.shape), rtol=1e-5, atol=1e-6)
    local = schemes.parse('local')
    np.testing.assert_array_equal(sharing.after_step(local, g, params, jnp.int32(3))['kernel'], params['kernel'])
