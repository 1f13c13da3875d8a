"""The networks: as many weights as counted, equal to the same network in plain Flax, and what their heads promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_config import model_configs
from test_train import products

from cnn_research import config, cost, errors, models

CLASSES = 4
compiled = functools.partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiles faster


def normal(*shape):
    """Float32 normal numbers."""
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def network(image, **fields):
    """A network and variables for it, all of them random and the variances positive."""
    net = models.Network(config.ModelConfig(**fields), CLASSES)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *image)))
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(1)
    draws = [np.float32(0.3) * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    variables = tree.unflatten(draws)
    if 'batch_stats' in variables:
        variables['batch_stats'] = jax.tree.map(lambda leaf: 0.5 + leaf**2, variables['batch_stats'])
    return net, variables


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(model_configs(), st.integers(4, 9), st.integers(4, 9), st.integers(1, 3))
def test_a_network_has_as_many_weights_as_counted(model, height, width, channels):
    image = (height, width, channels)
    try:
        rows = cost.layers(model, image, CLASSES)
    except errors.InputError:
        assume(False)
    net = models.Network(model, CLASSES)
    logits, variables = jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((2, *image)))
    sizes = {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in variables['params'].items()}
    for name in [name for name in sizes if 'norm_' in name]:
        sizes[name.replace('hidden_norm', 'hidden').replace('norm', 'stage')] += sizes.pop(name)
    assert {name: 4 * size for name, size in sizes.items()} == {row.name: row.parameter_bytes for row in rows}
    free = {row.name: row.weights for row in rows}
    masked = {f'stage_{i}' for i, name in enumerate(model.sharing) if name == 'masked_dense'}  # most of what is stored there is not free
    assert all(free[name] <= size if name in masked else free[name] == size for name, size in sizes.items())
    assert sum(free.values()) == cost.total(model, image, CLASSES).weights
    assert logits.shape == (2, CLASSES)
    stages = [tree for name, tree in variables['params'].items() if name.startswith('stage_')]
    biases = [tree['bias'].shape for tree in stages if 'bias' in tree]
    assert biases == ([(features,) for features in model.features] if model.norm == 'none' and model.biases == 'all' else [])
    assert ('bias' in variables['params']['classes']) == (model.biases != 'none')


class Plain(nn.Module):
    """Two stages in plain Flax, with ReLU before the pool, as textbooks have it."""

    norm: bool

    @nn.compact
    def __call__(self, x):
        for i, (features, stride, pool) in enumerate([(3, 1, 2), (5, 2, 1)]):
            x = nn.Conv(features, (3, 3), (stride, stride), 'SAME', use_bias=not self.norm, name=f'stage_{i}')(x)
            x = nn.BatchNorm(use_running_average=True, name=f'norm_{i}')(x) if self.norm else x
            x = nn.max_pool(nn.relu(x), (pool, pool), (pool, pool))
        x = x.reshape(len(x), -1)
        x = nn.Dense(6, use_bias=not self.norm, name='hidden_0')(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, name='hidden_norm_0')(x) if self.norm else x)
        return nn.Dense(CLASSES, name='classes')(x)


@pytest.mark.parametrize('norm', config.NORMS)
def test_a_network_is_the_same_network_in_plain_flax(norm):
    x = normal(3, 9, 8, 2)
    fields = {'features': (3, 5), 'strides': (1, 2), 'pools': (2, 1), 'hidden': (6,), 'norm': norm}
    net, variables = network(x.shape[1:], **fields)
    assert ('batch_stats' in variables) == (norm == 'batch')
    both = compiled(lambda v, x: (net.apply(v, x), Plain(norm == 'batch').apply(v, x)))
    got, expected = both(variables, x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert np.std(got) > 1e-2


def test_what_ends_in_relu_starts_with_twice_the_variance_of_what_does_not():
    fields = {'features': (32, 8, 8), 'kernel_sizes': (5, 3, 3), 'strides': (1,) * 3, 'pools': (1,) * 3, 'hidden': (64,)}
    net = models.Network(config.ModelConfig(**fields, sharing=('shared', 'local', 'dense')), 32)
    params = compiled(net.init)(jax.random.key(0), jnp.zeros((1, 6, 6, 4)))['params']
    inputs = {'stage_0': 25 * 4, 'stage_1': 9 * 32, 'stage_2': 36 * 8, 'hidden_0': 36 * 8, 'classes': 64}
    for name, fan_in in inputs.items():
        expected = np.sqrt((1 if name == 'classes' else 2) / fan_in)
        assert np.std(params[name]['kernel']) == pytest.approx(expected, rel=0.05), name


def test_heads_end_the_maps_by_their_names():
    x = normal(2, 3, 4, 5)
    np.testing.assert_array_equal(models.apply_head('flatten', x), x.reshape(2, 60))
    np.testing.assert_allclose(models.apply_head('gap', x), x.mean((1, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(models.apply_head('gmp', x), x.max((1, 2)))


@pytest.mark.parametrize(
    ('sharing', 'head', 'invariant'),
    [
        ('shared', 'gmp', True),
        ('shared', 'gap', True),
        ('shared', 'flatten', False),
        ('local', 'gmp', False),
        ('dense', 'gmp', False),
    ],
)
def test_only_shared_filters_with_a_pooling_head_ignore_circular_shifts(sharing, head, invariant):
    x = normal(4, 6, 7, 2)
    fields = {'features': (8, 8), 'pools': (1, 1), 'padding': 'CIRCULAR', 'head': head, 'sharing': (sharing,) * 2}
    net, variables = network(x.shape[1:], **fields)
    apply = compiled(net.apply)
    logits, shifted = apply(variables, x), apply(variables, np.roll(x, (2, -3), (1, 2)))
    difference = np.abs(logits - shifted).max() / np.std(logits)
    assert difference < 1e-5 if invariant else difference > 0.1


@pytest.mark.parametrize('norm', config.NORMS)
def test_an_image_is_classified_alike_whatever_stands_beside_it(norm):
    x = normal(19, 6, 6, 8)  # as many channels and images as every way to compute a convolution needs
    net, variables = network(x.shape[1:], features=(8, 3), norm=norm)
    apply = compiled(net.apply)
    together = apply(variables, x)
    for part in (slice(0, 1), slice(3, 19)):
        np.testing.assert_allclose(apply(variables, x[part]), together[part], rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_the_batch_in_training_alone():
    x = normal(9, 6, 6, 1)
    net, variables = network(x.shape[1:], norm='batch')
    train = compiled(functools.partial(net.apply, train=True, mutable=['batch_stats']))
    together, new = train(variables, x)
    assert np.abs(together[:4] - train(variables, x[:4])[0]).max() > 0.01
    for old, moved in zip(jax.tree.leaves(variables['batch_stats']), jax.tree.leaves(new['batch_stats'])):
        assert np.all(old != moved)


@pytest.mark.parametrize('norm', config.NORMS)
def test_layers_multiply_in_bfloat16_where_asked_and_parameters_stay_float32(norm):
    fields = {'features': (4, 6), 'sharing': ('shared', 'local'), 'norm': norm, 'hidden': (5,)}
    net, variables = network((8, 8, 2), **fields)
    half = models.Network(config.ModelConfig(**fields, compute='bfloat16'), CLASSES)
    x = normal(5, 8, 8, 2)
    full, logits = (compiled(n.apply)(variables, x) for n in (net, half))
    assert logits.dtype == full.dtype == np.float32
    error = np.abs(np.asarray(logits) - np.asarray(full)).max() / np.abs(np.asarray(full)).max()
    assert 1e-5 < error < 0.05  # eight bits of mantissa, a few layers
    assert {leaf.dtype for leaf in jax.tree.leaves(half.init(jax.random.key(0), x))} == {np.dtype(np.float32)}
    shapes = jax.make_jaxpr(functools.partial(half.apply, variables))(x)
    asked = {equation.invars[0].aval.dtype for equation in products(shapes.jaxpr)}
    assert asked == {jnp.dtype(jnp.bfloat16)}


def test_unknown_types_to_compute_in_are_refused():
    with pytest.raises(errors.InputError, match=r"unknown compute 'float16': did you mean 'bfloat16'\? known: float32, bfloat16"):
        config.ModelConfig(compute='float16')
