"""The published networks: as many weights as their papers say, and as the parameters that they make."""

import math

import jax
import jax.numpy as jnp
import pytest

from cnn_research import cost, errors, models, networks


@pytest.mark.parametrize('name', networks.NAMED)
def test_a_named_network_has_the_parameters_that_are_counted(name):
    model, image, classes, _ = networks.named(name)
    shapes = jax.eval_shape(models.Network(model, classes).init, jax.random.key(0), jnp.zeros((1, *image)))['params']
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == cost.total(model, image, classes).weights


@pytest.mark.parametrize(('name', 'millions'), [('lenet5', 0.061706), ('s_conv', 138), ('s_local', 147), ('s_fc', 256), ('d_conv', 1.45)])
def test_a_named_network_has_the_weights_that_are_printed(name, millions):
    model, image, classes, _ = networks.named(name)
    assert cost.total(model, image, classes).weights / 1e6 == pytest.approx(millions, rel=0.005)


def test_the_docstring_has_the_exact_counts():
    for name in ('s_conv', 's_local', 's_fc', 'd_conv', 'd_local', 'd_fc'):
        model, image, classes, _ = networks.named(name)
        spoken = f'{name.upper().replace("_", "-")} {cost.total(model, image, classes).weights:,}'
        assert spoken in networks.__doc__


def test_an_unknown_network_lists_the_known():
    with pytest.raises(errors.InputError, match=r"unknown network 'lenet': did you mean 'lenet5'\? known: lenet5, s_conv"):
        networks.named('lenet')
