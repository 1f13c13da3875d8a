"""Exact embeddings: the outputs stay, what cannot be embedded says why, and a trained network goes the whole way from shared to dense."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_sharing import fitting, geometries, random_params

from cnn_research import config, embedding, errors, models, projection, schemes, sharing
from cnn_research.geometry import Geometry

WAYS = (
    ('shared', 'shared'), ('shared', 'coordinates'), ('shared', 'tiled:2x2'), ('shared', 'low_rank:3'), ('shared', 'low_rank:2:free'),
    ('shared', 'low_rank:2:row_column'), ('shared', 'low_rank:3:row_column:free'), ('shared', 'local'),
    ('shared', 'masked_dense'), ('shared', 'dense'), ('tiled:1x2', 'tiled:3x2'), ('tiled:2x2', 'dense'),
    ('low_rank:2:row_column:free', 'masked_dense'), ('local', 'dense'),
    ('masked_dense', 'local'), ('masked_dense', 'dense'), ('averaged:2', 'local'), ('tiled:1x1', 'shared'), ('tiled:1x1', 'low_rank:2'),
    ('low_rank:2:row_column', 'low_rank:2'), ('low_rank:2:row_column:free', 'low_rank:2:free'), ('low_rank:2', 'low_rank:2:free'),
)  # fmt: skip
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiles faster


def output(scheme, g, params, x):
    """Maps of a layer with its bias."""
    return compiled(lambda params, x: sharing.apply(scheme, g, params, x) + params.get('bias', 0))(dict(params), x)


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-6 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.slow
@pytest.mark.parametrize(('source', 'target'), WAYS)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(g=geometries(), channels=st.sampled_from([1, 8]))
def test_an_embedding_keeps_every_output(source, target, g, channels):
    old, new = fitting(source, g), fitting(target, g)
    if isinstance(old, schemes.Tiled) and isinstance(new, schemes.Tiled) and any(n % o for n, o in zip(new.period, old.period)):
        old = schemes.Tiled((1, 1))
    params = random_params(old, g, channels, 2, np.float32) | {'bias': jnp.array([0.5, -1])}
    x = np.random.default_rng(1).normal(size=(3, *g.image, channels)).astype(np.float32)
    embedded = embedding.embed(params, old, new, g)
    assert {name: leaf.shape for name, leaf in embedded.items() if name != 'bias'} == new.shapes(g, channels, 2)
    close(output(new, g, embedded, x), output(old, g, params, x))


@pytest.mark.parametrize('padding', ['SAME', 'VALID', 'FULL', 'CIRCULAR'])
@pytest.mark.parametrize('target', ['shared', 'local', 'low_rank:2'])
def test_coordinates_become_a_bias_per_position(target, padding):
    g, old, new = Geometry((5, 6), (3, 2), (1, 2), padding), schemes.Coordinates(), schemes.parse(target)
    params = random_params(old, g, 2, 3, np.float32) | {'bias': jnp.array([0.5, -1, 2])}
    x = np.random.default_rng(1).normal(size=(3, 5, 6, 2)).astype(np.float32)
    embedded = embedding.embed(params, old, new, g)
    assert embedded['bias'].shape == (*g.positions, 3)
    near = projection.project(params, old, schemes.Shared(), g)
    assert near.residual == 0
    close(output(schemes.Shared(), g, near.params, x), output(old, g, params, x))
    close(output(new, g, embedded, x), output(old, g, params, x))


@pytest.mark.parametrize('target', ['low_rank:3', 'low_rank:3:row_column:free'])
def test_embedded_kernels_differ_after_one_step(target):
    g, new = Geometry((6, 5), (3, 3)), schemes.parse(target)
    params = embedding.embed(random_params(schemes.Shared(), g, 2, 4, np.float32), schemes.Shared(), new, g)
    for k in (1, 2):
        np.testing.assert_array_equal(params['kernel'][k], params['kernel'][0])
    x = np.random.default_rng(1).normal(size=(3, 6, 5, 2)).astype(np.float32)
    grads = jax.grad(lambda params: jnp.sum(jnp.sin(sharing.apply(new, g, params, x))))(params)
    kernel = np.asarray(params['kernel'] - 0.1 * grads['kernel'])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(kernel[one] - kernel[other]).max() > 0.01 * np.abs(kernel).max()


def test_a_key_draws_the_mixtures_and_every_stage_its_own():
    g, new = Geometry((6, 5), (3, 3)), schemes.parse('low_rank:2')
    params = random_params(schemes.Shared(), g, 2, 4, np.float32)
    draws = [embedding.embed(params, schemes.Shared(), new, g, key)['mixture'] for key in (None, jax.random.key(0), jax.random.key(1))]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[1], draws[2])
    model, image = config.ModelConfig((2, 2), (3, 3), (1, 1), (1, 1), ('shared',) * 2), (5, 4, 2)
    variables = models.Network(model, 3).init(jax.random.key(0), jnp.zeros((1, *image)))
    by_key = []
    for key in (None, jax.random.key(1)):
        embedded = embedding.embed_model(model, variables, image, 'low_rank:2', key)[1]['params']
        by_key.append([embedded[f'stage_{i}']['mixture'] for i in (0, 1)])
    assert not np.array_equal(*by_key[0]) and not np.array_equal(by_key[0][0], by_key[1][0])


@pytest.mark.parametrize(('inside', 'outside'), [(0.0, 0.0), (2.0, 0.0), (2.0, 0.4)])
def test_a_float16_dense_layer_is_read_back_only_if_it_is_local(inside, outside):
    g = Geometry((8, 8), (5, 5))
    mask, draw = np.asarray(sharing.locality_mask(g)), np.random.default_rng(0).normal(size=(8, 8, 4, 8, 8, 4))
    params = {'kernel': jnp.asarray(np.where(mask, inside, outside) * draw, jnp.float16)}
    if outside:
        with pytest.raises(errors.InputError, match='% of its squared weights lie outside'):
            embedding.embed(params, schemes.Dense(), schemes.Local(), g)
        return
    back = embedding.embed(params, schemes.Dense(), schemes.Local(), g)
    np.testing.assert_array_equal(sharing.matrix(g, back['kernel']), params['kernel'])


SCHEMES = ('shared', 'tiled:2x1', 'low_rank:2', 'local', 'masked_dense', 'dense')


@pytest.mark.slow
@pytest.mark.parametrize('name', SCHEMES)
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(g=geometries(), padding=st.sampled_from(['SAME', 'CIRCULAR', 'HALF']), more=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_a_larger_kernel_keeps_every_output(name, g, padding, more):
    fits = [min(k + extra, (size - 1) // d + 1) for k, extra, size, d in zip(g.kernel_size, more, g.image, g.dilation)]
    g = Geometry(g.image, g.kernel_size, g.strides, padding, g.dilation)
    large, scheme = Geometry(g.image, tuple(fits), g.strides, padding, g.dilation), fitting(name, g)
    params = random_params(scheme, g, 2, 3, np.float32)
    if any((new[0] - old[0]) % d for new, old, d in zip(large.pads, g.pads, g.dilation)) and name != 'dense':
        with pytest.raises(errors.InputError, match='has no taps where those of'):
            embedding.enlarge(params, scheme, g, large.kernel_size)
        return
    x = np.random.default_rng(1).normal(size=(3, *g.image, 2)).astype(np.float32)
    close(output(scheme, large, embedding.enlarge(params, scheme, g, large.kernel_size), x), output(scheme, g, params, x))


def test_what_is_not_contained_says_why_and_what_there_is():
    g = Geometry((6, 6), (3, 3))

    def embed(source, target, g=g, params=None):
        old = schemes.parse(source)
        return embedding.embed(params or random_params(old, g, 1, 1, np.float32), old, schemes.parse(target), g)

    for source, target, nearest in [
        ('local', 'shared', 'shared'), ('tiled:2x2', 'shared', 'shared'), ('low_rank:2', 'tiled:2x2', 'tiled:2x2'),
        ('local', 'low_rank:2', 'low_rank:2:free'), ('tiled:2x2', 'low_rank:3:row_column', 'low_rank:3:free'),
        ('low_rank:2:free', 'low_rank:2', 'low_rank:2:free'), ('low_rank:2', 'low_rank:3:free', 'low_rank:3:free'),
        ('local', 'coordinates', 'shared'), ('dense', 'low_rank:2', 'low_rank:2:free'),
    ]:  # fmt: skip
        words = rf'no embedding of {source} into {target}: projection\.project\(\) gives the nearest {nearest} layer'
        with pytest.raises(errors.InputError, match=words):
            embed(source, target)
        projection.project(random_params(schemes.parse(source), g, 1, 1, np.float32), *map(schemes.parse, (source, nearest)), g)
    with pytest.raises(errors.InputError, match='no embedding of tiled:2x2 into tiled:3x2: the new period must be a multiple of the old'):
        embed('tiled:2x2', 'tiled:3x2')
    for target in ('local', 'masked_dense'):
        with pytest.raises(errors.InputError, match=rf'dense into {target}, for .* % of its squared weights lie outside the filter: '):
            embed('dense', target)
    for source in ('shared', 'tiled:2x2'):
        with pytest.raises(errors.InputError, match='tiled:8x8 has a longer period than the 6 x 6 positions'):
            embed(source, 'tiled:8x8')
    shared = random_params(schemes.Shared(), g, 1, 1, np.float32)
    for params, words in (
        ({'weights': shared['kernel']}, 'a shared layer has a kernel, got the parameters weights'),
        ({'kernel': shared['kernel'][0]}, 'a kernel of at least four axes'),
        ({**shared, 'bias': jnp.zeros((5, 6, 1))}, r'a bias is \(1,\) or \(6, 6, 1\) here, got shape \(5, 6, 1\)'),
    ):
        with pytest.raises(errors.InputError, match=words):
            embed('shared', 'local', params=params)
    huge = Geometry((720, 1280), (3, 3))
    with pytest.raises(errors.InputError, match='this dense layer would need 326 TB'):
        embedding.embed({'kernel': jnp.zeros((3, 3, 3, 32))}, schemes.Shared(), schemes.Dense(), huge)
    other = random_params(schemes.Local(), Geometry((5, 6), (3, 3)), 1, 1, np.float32)
    with pytest.raises(errors.InputError, match='no local layer with filters of 3 x 3 on images of 6 x 6 has the parameters'):
        embed('local', 'dense', params=other)
    params = random_params(schemes.Shared(), g, 1, 1, np.float32)
    with pytest.raises(errors.InputError, match='kernel of 2 does not contain one of 3'):
        embedding.enlarge(random_params(schemes.Dense(), g, 1, 1, np.float32), schemes.Dense(), g, (3, 2))
    for padding in ('VALID', 'FULL'):
        with pytest.raises(errors.InputError, match=f'maps of another size under {padding}'):
            embedding.enlarge(params, schemes.Shared(), Geometry((6, 6), (3, 3), padding=padding), (5, 5))
    with pytest.raises(errors.InputError, match='kernel of 2 does not contain one of 3'):
        embedding.enlarge(params, schemes.Shared(), g, (2, 3))
    with pytest.raises(errors.InputError, match='kernel of 7 is larger than its input of 6'):
        embedding.enlarge(params, schemes.Shared(), g, (7, 7))


def test_a_dense_layer_that_is_local_can_be_read_back():
    g = Geometry((4, 5), (3, 2), (1, 2))
    params = random_params(schemes.Local(), g, 2, 3, np.float32)
    dense = embedding.embed(params, schemes.Local(), schemes.Dense(), g)
    back = embedding.embed(dense, schemes.Dense(), schemes.Local(), g)
    np.testing.assert_array_equal(back['kernel'], np.where(g.mask()[..., None, None], params['kernel'], 0))


@pytest.mark.slow
@pytest.mark.parametrize(('norm', 'head'), [('none', 'gap'), ('batch', 'gmp'), ('batch', 'flatten')])
def test_a_whole_network_keeps_its_logits(norm, head):
    image = (9, 8, 2)
    model = config.ModelConfig((3, 4), (3, 2), (2, 1), (1, 2), ('shared', 'shared'), 'SAME', norm, head, (5,))
    net = models.Network(model, 4)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *image)))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: np.abs(rng.normal(size=leaf.shape)).astype(np.float32), shapes)  # variances are positive
    x = rng.normal(size=(20, *image)).astype(np.float32)

    def logits(model, variables):
        return compiled(models.Network(model, 4).apply)(variables, x)

    expected = logits(model, variables)
    now = model, variables
    for name in ('tiled:2x2', 'local', 'masked_dense', 'dense'):
        now = embedding.embed_model(*now, image, name)
        assert now[0].sharing == (name, name)
        close(logits(*now), expected)
    close(logits(*embedding.embed_model(model, variables, image, ('low_rank:2', 'dense'))), expected)
    close(logits(*embedding.enlarge_model(model, variables, image, (5, 4))), expected)
    with pytest.raises(errors.InputError, match='stage_1: no embedding of local into shared: '):
        embedding.embed_model(*embedding.embed_model(model, variables, image, ('shared', 'local')), image, 'shared')
    coordinates = embedding.embed_model(model, variables, image, 'coordinates')
    close(logits(*coordinates), expected)
    with pytest.raises(errors.InputError, match='stage_0: its coordinates are a bias per position'):
        embedding.embed_model(*coordinates, image, 'local')
