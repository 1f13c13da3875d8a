"""The layers: equal to `flax.linen.Conv` where it exists, alike in what they start from, and at home in any Linen model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn_research import errors, geometry, layers, schemes

LAYERS = {
    'shared': layers.SharedConv,
    'coordinates': layers.CoordConv,
    'tiled': layers.TiledConv,
    'low_rank': layers.LowRankConv,
    'local': layers.LocallyConnected,
    'masked_dense': layers.MaskedDense,
    'dense': layers.DenseMap,
}
ALL = pytest.mark.parametrize('layer', LAYERS.values(), ids=LAYERS)
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiles faster


def normal(*shape):
    """Float32 normal numbers."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize(
    ('channels', 'strides', 'kernel_size', 'dilation'),
    [
        (2, (1, 1), (3, 3), (1, 1)),
        (2, (2, 1), (2, 4), (1, 1)),
        (8, (1, 1), (4, 3), (1, 1)),
        (8, (2, 3), (3, 2), (1, 1)),
        (2, (1, 2), (3, 2), (2, 3)),
    ],
    ids=['few_channels', 'few_channels_strided', 'many_channels', 'many_channels_strided', 'dilated'],
)
def test_shared_conv_is_linen_conv_with_the_same_parameters(channels, strides, kernel_size, dilation, padding):
    x = normal(3, 7, 6, channels)
    reach = [(k - 1) * d for k, d in zip(kernel_size, dilation)]
    explicit = {'FULL': [(r, r) for r in reach], 'HALF': [(r // 2, (r + 1) // 2) for r in reach]}
    linen_padding = explicit.get(padding, padding)
    conv = nn.Conv(5, kernel_size, strides, linen_padding, kernel_dilation=dilation)
    own = layers.SharedConv(5, kernel_size, strides, padding, dilation)
    shapes = jax.eval_shape(conv.init, jax.random.key(0), x)
    assert jax.eval_shape(own.init, jax.random.key(0), x) == shapes
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    expected, got = compiled(lambda v, x: (conv.apply(v, x), own.apply(v, x)))(variables, x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('channels', 'kernel_size', 'strides'), [(2, (3, 2), (1, 1)), (3, (2, 4), (2, 1))])
@pytest.mark.parametrize('padding', ['SAME', 'VALID', 'CIRCULAR'])
def test_locally_connected_is_linen_conv_local_with_the_same_numbers(channels, kernel_size, strides, padding):
    x = normal(3, 7, 6, channels)
    theirs, own = (
        nn.ConvLocal(5, kernel_size, strides, padding),
        layers.LocallyConnected(5, kernel_size, strides, padding, bias_per_position=True),
    )
    shapes = jax.eval_shape(own.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: normal(*leaf.shape), shapes)
    kernel = variables['params']['kernel']
    flat = kernel.transpose(0, 1, 4, 2, 3, 5).reshape(*kernel.shape[:2], -1, kernel.shape[-1])  # theirs: channels before taps
    expected = theirs.apply({'params': {'kernel': flat, 'bias': variables['params']['bias']}}, x)
    np.testing.assert_allclose(own.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('layer', [layers.SharedConv, layers.LowRankConv, layers.MaskedDense])
def test_a_layer_takes_what_linen_conv_takes(layer):
    """Whole numbers for pairs, any leading axes, a computing type."""
    x = normal(2, 3, 6, 5, 2)
    own = layer(4, 3, 1, 'SAME', dtype=jnp.bfloat16)
    variables = compiled(own.init)(jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}
    y = own.apply(variables, x)
    theirs, _ = jax.eval_shape(nn.Conv(4, (3, 3)).init_with_output, jax.random.key(0), x)
    assert y.shape == theirs.shape and y.dtype == jnp.bfloat16
    one = own.clone(dtype=None).apply(variables, x[1, 2])
    np.testing.assert_allclose(one, own.clone(dtype=None).apply(variables, x)[1, 2], rtol=1e-5, atol=1e-5)


@ALL
def test_parameters_are_of_the_type_asked_for(layer):
    shapes = jax.eval_shape(layer(4, 3, param_dtype=jnp.bfloat16).init, jax.random.key(0), jnp.zeros((1, 6, 5, 2)))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize('channels', [1, 8])
def test_gradients_over_many_images_keep_their_precision_in_small_types(channels, dtype):
    rng = np.random.default_rng(0)
    x, cotangent = (jnp.asarray(rng.uniform(size=(2048, 4, 4, c)), dtype) for c in (channels, 2))
    own, theirs = layers.SharedConv(2, (3, 3), dtype=dtype), nn.Conv(2, (3, 3))
    variables = own.init(jax.random.key(0), x)

    def gradient(layer, variables, x, cotangent):
        return jax.grad(lambda v: jnp.sum(layer.apply(v, x).astype(jnp.float32) * cotangent))(variables)['params']['kernel']

    wide = [a.astype(jnp.float32) for a in (x, cotangent)]
    expected, got = gradient(theirs, variables, *wide), compiled(functools.partial(gradient, own))(variables, x, wide[1])
    np.testing.assert_allclose(got, expected, rtol=0, atol=float(jnp.finfo(dtype).eps) * np.abs(expected).max())


@ALL
def test_a_layer_is_at_home_under_the_transformations(layer):
    """vmap over parameters, scan over depth, remat: each equal to the layer applied plainly."""
    own, x = layer(2, (3, 3)), normal(2, 5, 4, 2)

    class Repeated(nn.Module):
        @nn.compact
        def __call__(self, x):
            step = nn.scan(lambda module, x, _: (module(x), None), variable_axes={'params': 0}, split_rngs={'params': True}, length=3)
            return step(nn.remat(layer)(2, (3, 3), name='own'), x, None)[0]

    variables = compiled(Repeated().init)(jax.random.key(0), x)
    expected = x
    for i in range(3):
        expected = own.apply({'params': jax.tree.map(lambda leaf, i=i: leaf[i], variables['params']['own'])}, expected)
    np.testing.assert_allclose(compiled(Repeated().apply)(variables, x), expected, rtol=1e-4, atol=1e-5)
    several = compiled(jax.vmap(lambda params: own.apply({'params': params}, x)))(variables['params']['own'])
    one = own.apply({'params': jax.tree.map(lambda leaf: leaf[1], variables['params']['own'])}, x)
    np.testing.assert_allclose(several[1], one, rtol=1e-5, atol=1e-5)


def test_numbers_of_numpy_and_none_are_taken_as_linen_conv_takes_them():
    x = normal(1, 6, 6, 2)
    shapes = jax.eval_shape(layers.LocallyConnected(2, np.array([3, 2]), None).init, jax.random.key(0), x)
    assert shapes == jax.eval_shape(layers.LocallyConnected(2, (np.int64(3), 2), np.int32(1)).init, jax.random.key(0), x)


@ALL
@pytest.mark.parametrize('padding', geometry.PADDINGS)
def test_all_schemes_make_the_same_maps(layer, padding):
    own, x = layer(5, (3, 2), (2, 1), padding), jnp.zeros((2, 7, 6, 4))
    rows, columns = geometry.output_size(7, 3, 2, padding), geometry.output_size(6, 2, 1, padding)
    output, _ = jax.eval_shape(own.init_with_output, jax.random.key(0), x)
    assert output.shape == (2, rows, columns, 5)


@ALL
def test_the_bias_starts_at_zero_and_is_one_per_channel_or_position(layer):
    x = normal(2, 4, 5, 3)
    own = layer(2, (3, 3))
    variables = compiled(own.init)(jax.random.key(1), x)['params']
    np.testing.assert_array_equal(variables['bias'], [0, 0])
    without = {name: leaf for name, leaf in variables.items() if name != 'bias'}
    assert set(jax.eval_shape(own.clone(use_bias=False).init, jax.random.key(1), x)['params']) == set(without)
    y = own.clone(use_bias=False).apply({'params': without}, x)
    biased = own.apply({'params': {**without, 'bias': jnp.array([1.0, -2.0])}}, x)
    np.testing.assert_allclose(biased, y + np.array([1, -2]), rtol=1e-6, atol=1e-6)
    bias = normal(4, 5, 2)
    biased = own.clone(bias_per_position=True).apply({'params': {**without, 'bias': bias}}, x)
    np.testing.assert_allclose(biased, y + bias, rtol=1e-6, atol=1e-6)


def test_every_position_of_a_local_layer_draws_its_own_filter():
    layer = layers.LocallyConnected(2, (3, 3))
    kernel = compiled(layer.init)(jax.random.key(0), jnp.zeros((1, 4, 5, 1)))['params']['kernel']
    assert len(np.unique(np.asarray(kernel))) == kernel.size


def test_a_layer_of_any_scheme_by_its_name():
    x = jnp.zeros((1, 6, 6, 2))
    shapes = [
        jax.eval_shape(layer.init, jax.random.key(0), x)
        for layer in (layers.TiledConv(3, 3, period=(2, 3)), layers.SpatialMap(3, 3, scheme='tiled:2x3'))
    ]
    assert shapes[0] == shapes[1]
    assert shapes[0]['params']['kernel'].shape == (2, 3, 3, 3, 2, 3)
    with pytest.raises(errors.InputError, match=r"'tied': did you mean 'tiled:HxW'\? known: shared, "):
        jax.eval_shape(layers.SpatialMap(3, 3, scheme='tied').init, jax.random.key(0), x)


@ALL
def test_what_a_layer_cannot_have_is_refused(layer):
    def init(x, *fields, **more):
        return jax.eval_shape(layer(1, *fields, **more).init, jax.random.key(0), x)

    x = jnp.zeros((1, 4, 8, 1))
    with pytest.raises(errors.InputError, match='kernel of 5 is larger than its input of 4'):
        init(x, (5, 5))
    with pytest.raises(errors.InputError, match='kernel_size must be one whole number above zero, or two, got'):
        init(x, (3, 3, 3))
    with pytest.raises(errors.InputError, match='strides must be one whole number'):
        init(x, 3, 0)
    for features in (0, -1, 2.0):
        with pytest.raises(errors.InputError, match='features must be a whole number of at least 1'):
            jax.eval_shape(layer(features, 3).init, jax.random.key(0), x)
    with pytest.raises(errors.InputError, match=r"'REFLECT'; known: VALID, SAME"):
        init(x, 3, 1, 'REFLECT')
    with pytest.raises(errors.InputError, match=r'needs images \[..., height, width, channels\], got shape \(4, 8\)'):
        init(x[0, ..., 0], 3)


@pytest.mark.parametrize(('make', 'words'), [
    (lambda: layers.LowRankConv(1, 3, rank=0), 'rank must be a whole number of at least 1, got 0'),
    (lambda: layers.LowRankConv(1, 3, rank=1.5), 'rank must be a whole number of at least 1, got 1.5'),
    (lambda: layers.TiledConv(1, 3, period=(0, 1)), 'period must be one whole number above zero, or two'),
    (lambda: layers.SpatialMap(1, 3, scheme=schemes.Tiled((1, 1.5))), 'period must be a whole number of at least 1, got 1.5'),
    (lambda: layers.SpatialMap(1, 3, scheme=None), 'unknown sharing scheme None; known: shared'),
])  # fmt: skip
def test_what_a_scheme_cannot_be_is_refused(make, words):
    with pytest.raises(errors.InputError, match=words):
        jax.eval_shape(make().init, jax.random.key(0), jnp.zeros((1, 4, 4, 1)))


def test_absurd_sizes_stop_before_memory_is_touched():
    x = jax.ShapeDtypeStruct((1, 720, 1280, 3), np.float32)
    with pytest.raises(errors.InputError, match=r'this dense layer would need 326 TB, this machine has .* counting is free'):
        jax.eval_shape(layers.DenseMap(32, 3).init, jax.random.key(0), x)
    assert jax.eval_shape(layers.SharedConv(32, 3).init, jax.random.key(0), x)['params']['kernel'].size == 864
