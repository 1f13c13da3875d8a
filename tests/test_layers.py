"""The layers: equal to `flax.linen.Conv` where it exists, and alike in what they start from."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn_research import errors, geometry, layers

ALL = pytest.mark.parametrize('scheme', layers.SCHEMES)
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiles faster


def normal(*shape):
    """Float32 normal numbers."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize(
    ('channels', 'strides', 'kernel_size'),
    [(2, (1, 1), (3, 3)), (2, (2, 1), (2, 4)), (8, (1, 1), (4, 3)), (8, (2, 3), (3, 2))],
    ids=['few_channels', 'few_channels_strided', 'many_channels', 'many_channels_strided'],
)
def test_shared_conv_is_linen_conv_with_the_same_parameters(channels, strides, kernel_size, padding):
    x = normal(3, 7, 6, channels)
    linen_padding = [(k - 1, k - 1) for k in kernel_size] if padding == 'FULL' else padding
    conv, own = nn.Conv(5, kernel_size, strides, linen_padding), layers.SharedConv(5, kernel_size, strides, padding)
    shapes = jax.eval_shape(conv.init, jax.random.key(0), x)
    assert jax.eval_shape(own.init, jax.random.key(0), x) == shapes
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    expected, got = compiled(lambda v, x: (conv.apply(v, x), own.apply(v, x)))(variables, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_all_schemes_start_with_the_output_deviation_of_linen_conv():
    x = normal(32, 6, 5, 8)

    def deviation(layer):  # over 20 initial draws, where no padding reaches
        def once(key):
            return layer.init_with_output(key, x)[0][:, 1:-1, 1:-1]

        return float(jnp.std(compiled(lambda keys: jax.lax.map(once, keys))(jax.random.split(jax.random.key(1), 20))))

    expected = deviation(nn.Conv(32, (3, 3)))
    assert expected == pytest.approx(1, rel=0.03)  # that of the images
    for name, layer in layers.SCHEMES.items():
        assert deviation(layer(32, (3, 3))) == pytest.approx(expected, rel=0.03), name


@ALL
def test_kernels_have_the_shape_of_what_is_free(scheme):
    layer = layers.scheme(scheme)(5, (3, 2), (2, 1), 'VALID')
    shapes = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 7, 6, 4)))['params']
    expected = {'shared': (3, 2, 4, 5), 'local': (3, 5, 3, 2, 4, 5), 'dense': (7, 6, 4, 3, 5, 5)}
    assert shapes['kernel'].shape == expected[scheme]
    assert shapes['bias'].shape == (5,)


@ALL
@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_all_schemes_make_the_same_maps(scheme, padding):
    layer, x = layers.scheme(scheme)(5, (3, 2), (2, 1), padding), jnp.zeros((2, 7, 6, 4))
    rows, columns = geometry.output_size(7, 3, 2, padding), geometry.output_size(6, 2, 1, padding)
    output, _ = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert output.shape == (2, rows, columns, 5) and layer.output_size(x) == (rows, columns)


@ALL
def test_the_bias_starts_at_zero_and_is_one_per_channel(scheme):
    x = normal(2, 4, 5, 3)
    layer, without = (layers.scheme(scheme)(2, (3, 3), use_bias=use) for use in (True, False))
    params = compiled(layer.init)(jax.random.key(1), x)['params']
    np.testing.assert_array_equal(params['bias'], [0, 0])
    assert set(jax.eval_shape(without.init, jax.random.key(1), x)['params']) == {'kernel'}
    y = without.apply({'params': {'kernel': params['kernel']}}, x)
    biased = layer.apply({'params': {**params, 'bias': jnp.array([1.0, -2.0])}}, x)
    np.testing.assert_allclose(biased, y + np.array([1, -2]), rtol=1e-6)


def test_every_position_of_a_local_layer_draws_its_own_filter():
    layer = layers.LocallyConnected(2, (3, 3))
    kernel = compiled(layer.init)(jax.random.key(0), jnp.zeros((1, 4, 5, 1)))['params']['kernel']
    assert len(np.unique(np.asarray(kernel))) == kernel.size


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(errors.InputError, match="'tiled'; known: shared, local, dense"):
        layers.scheme('tiled')


@ALL
def test_a_kernel_larger_than_the_image_is_refused(scheme):
    with pytest.raises(errors.InputError, match='kernel of 5 is larger than its input of 4'):
        jax.eval_shape(layers.scheme(scheme)(1, (5, 5)).init, jax.random.key(0), jnp.zeros((1, 4, 8, 1)))
