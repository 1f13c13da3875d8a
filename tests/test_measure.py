"""Measures of moving images, against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import errors, measure, models, ops
from cnn_research.config import ModelConfig

RANDOM = np.random.default_rng(0)
IMAGES = jnp.asarray(RANDOM.standard_normal((6, 8, 10, 2)), jnp.float32)
KERNEL = jnp.asarray(RANDOM.standard_normal((3, 3, 2, 4)), jnp.float32)


def convolution(padding, strides=(1, 1)):
    return lambda x: ops.shared(x, KERNEL, strides, padding)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-12, 12), st.integers(-12, 12)), min_size=3, max_size=3), st.booleans())
def test_moves_are_those_of_numpy(by, circular):
    images = np.asarray(IMAGES)[:3]
    expected = []
    for image, (row, column) in zip(images, by):
        one = np.roll(image, (row, column), (0, 1))
        if not circular:
            rows, columns = np.arange(8) - row, np.arange(10) - column
            one = one * np.outer((rows >= 0) & (rows < 8), (columns >= 0) & (columns < 10))[..., None]
        expected.append(one)
    np.testing.assert_array_equal(measure.moved(jnp.asarray(images), np.array(by), circular), np.stack(expected))


@pytest.mark.parametrize('by', [(0, 1), (3, -2), (-7, 9)])
def test_a_circular_convolution_moves_along_everywhere(by):
    error = measure.equivariance_error(convolution('CIRCULAR'), IMAGES, by, margin=1)
    assert max(error.border, error.interior or 0.0) < 1e-6
    assert measure.equivariance_error(lambda x: x, IMAGES, by) == (0.0, None)


@pytest.mark.parametrize('circular', [True, False])
@pytest.mark.parametrize('by', [(0, 1), (-2, 3)])
def test_a_padded_convolution_moves_along_where_it_sees_no_border(by, circular):
    error = measure.equivariance_error(convolution('SAME'), IMAGES, by, circular=circular, margin=1)
    assert error.interior < 1e-6 and error.border > 0.1


def test_a_stride_is_followed_by_its_multiples_alone():
    strided = convolution('CIRCULAR', (2, 2))
    assert measure.equivariance_error(strided, IMAGES, (2, -4), strides=(2, 2)).interior < 1e-6
    assert measure.equivariance_error(strided, IMAGES, (1, 0), strides=(2, 2)).interior > 0.5
    assert measure.equivariance_error(strided, IMAGES, (2, -4)) == measure.equivariance_error(strided, IMAGES, (2, -4), strides=(2, 2))


@pytest.mark.parametrize('by', [(0, 3), (-5, 2), (12, 0)])
def test_maps_that_do_not_go_round_have_no_units_from_the_other_side(by):
    """Without padding the maps are smaller than the circle of pixels: what came from beyond their end has no counterpart."""
    for padding in ('VALID', 'FULL'):
        error = measure.equivariance_error(convolution(padding), IMAGES, by, strides=(1, 1), margin=2)
        if padding == 'VALID':
            assert max(error.interior or 0.0, error.border or 0.0) < 1e-6
        else:
            assert (error.interior or 0.0) < 1e-6
    with pytest.raises(errors.InputError, match=r'maps \(6, 8\) of images \(8, 10\): say how many pixels'):
        measure.equivariance_error(convolution('VALID'), IMAGES, by)


def test_unrelated_maps_have_error_one_and_the_formula_is_the_one_that_is_documented():
    place = jnp.asarray(RANDOM.standard_normal((8, 10, 200)), jnp.float32)
    assert measure.equivariance_error(lambda x: jnp.broadcast_to(place, (len(x), *place.shape)), IMAGES, (3, 4)).interior == pytest.approx(
        1, abs=0.02
    )
    error = measure.equivariance_error(lambda x: x[..., :1] + place[..., :1], IMAGES, (3, 4))
    x, p = np.asarray(IMAGES)[..., 0].astype(float), np.asarray(place)[..., 0].astype(float)
    a, b = np.roll(x, (3, 4), (1, 2)) + p, np.roll(x + p, (3, 4), (1, 2))
    m = np.concatenate([a, b]).mean()
    assert error.interior == pytest.approx(np.sqrt(((a - b) ** 2).sum() / (((a - m) ** 2).sum() + ((b - m) ** 2).sum())), rel=1e-5)


def test_constant_maps_have_no_error():
    assert measure.equivariance_error(lambda x: jnp.ones((len(x), 4, 5, 1)), IMAGES, (1, 1)) == (0.0, None)


def test_sums_do_not_feel_a_circular_move_and_pixels_feel_it_wholly():
    total = measure.sensitivity_map(lambda x: x.sum((1, 2)), IMAGES, (0, 3), (0, 1, -2), circular=True)
    assert total.shape == (2, 3) and np.abs(total).max() < 1e-5
    points = jnp.zeros((4, 8, 8, 1)).at[jnp.arange(4), 2 * jnp.arange(4), 1].set(1.0)  # any two are sqrt(2) apart, and so is a moved one
    np.testing.assert_allclose(measure.sensitivity_map(lambda x: x.reshape(4, -1), points, (0, 1), (0, 3)), [[0, 1], [1, 1]], atol=1e-6)
    out = measure.sensitivity_map(lambda x: x.reshape(4, -1), points, (8,), (0,))  # nothing is left: the distance to nothing is 1
    np.testing.assert_allclose(out, 1 / np.sqrt(2), atol=1e-6)
    for images in (points[:1], jnp.ones((3, 4, 4, 1))):
        with pytest.raises(errors.InputError, match='two images with different outputs'):
            measure.sensitivity_map(lambda x: x.sum((1, 2)), images, (0,), (0,))


@pytest.mark.parametrize(('downsampling', 'padding', 'consistent'), [
    ('polyphase', 'CIRCULAR', True), ('max', 'CIRCULAR', False), ('polyphase', 'SAME', False),
])  # fmt: skip
def test_adaptive_sampling_in_a_circular_network_is_read_alike_at_all_shifts(downsampling, padding, consistent):
    """Chaman & Dokmanic 2021, section 4: consistency 1 for circular shifts, by construction; a maximum over fixed squares has none."""
    model = models.Network(ModelConfig((8, 8), head='gap', padding=padding, downsampling=downsampling), 50)
    images = jnp.asarray(RANDOM.standard_normal((200, 8, 8, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), images)
    moves = measure.random_moves(jax.random.key(1), 200, (0, 0), (7, 7))
    share = measure.consistency(lambda x: model.apply(variables, x), images, moves, circular=True)
    assert share == 1 if consistent else share < 1


def test_consistency_counts_the_images_whose_two_shifts_agree():
    images = jnp.zeros((3, 1, 5, 1)).at[:, 0, 0].set(1.0)
    moves = np.array([[[0, 1], [0, 1]], [[0, 1], [0, 2]], [[0, 4], [0, 4]]])
    assert measure.consistency(lambda x: x.reshape(3, -1), images, moves) == pytest.approx(2 / 3)


def test_random_moves_are_uniform_over_their_range():
    moves = np.asarray(measure.random_moves(jax.random.key(0), 20_000, (-1, 2), (1, 2)))
    assert moves.shape == (20_000, 2, 2) and set(moves[..., 1].flat) == {2}
    shares = [(moves[..., 0] == row).mean(0) for row in (-1, 0, 1)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def stacked(stack):
    def features(x):
        for size, stride in stack:
            x = ops.shared(x, jnp.ones((size, size, 1, 1)), (stride, stride), 'VALID')
        return x

    return features


@pytest.mark.parametrize(
    ('stack', 'side'), [([], 1), ([(3, 1)], 3), ([(3, 1), (3, 1)], 5), ([(3, 2), (3, 1)], 7), ([(5, 2), (2, 2), (3, 1)], 15)]
)
def test_the_receptive_field_is_where_the_gradient_is_not_zero(stack, side):
    assert measure.receptive_field(stack) == side
    field = measure.effective_receptive_field(stacked(stack), jnp.ones((2, 31, 31, 1)), jax.random.key(0))
    assert (field > 1e-6).sum() == side**2 and field.max() == 1  # products of frequencies leave rounding errors everywhere


def test_the_effective_field_of_ones_is_the_convolution_of_ones():
    field = measure.effective_receptive_field(stacked([(3, 1), (3, 1)]), jnp.ones((1, 9, 9, 1)), jax.random.key(0))
    ones = np.convolve(np.ones(3), np.ones(3))
    np.testing.assert_allclose(field[2:7, 2:7], np.outer(ones, ones) / 9, rtol=1e-6)
    assert measure.effective_size(field) == 5
    assert measure.effective_size(measure.effective_receptive_field(stacked([(3, 1)]), jnp.ones((1, 9, 9, 1)), jax.random.key(0))) == 3
    assert not measure.effective_receptive_field(lambda x: 0 * x, jnp.ones((1, 9, 9, 1)), jax.random.key(0)).any()


def test_coordinates_tell_the_position_and_a_circular_convolution_does_not():
    coordinates = jnp.stack(jnp.meshgrid(jnp.linspace(-1, 1, 8), jnp.linspace(0, 5, 10), indexing='ij'), axis=-1)
    told = measure.position_decodability(lambda x: jnp.concatenate([x, coordinates + 0 * x], axis=-1), IMAGES)
    np.testing.assert_allclose(told, 1, atol=1e-6)
    images = jnp.asarray(RANDOM.standard_normal((200, 8, 10, 2)), jnp.float32)
    untold = measure.position_decodability(convolution('CIRCULAR'), images)
    assert max(map(abs, untold)) < 0.02
    leaked = measure.position_decodability(lambda x: convolution('SAME')(jnp.ones_like(x)), images)  # corners and sides differ
    assert min(leaked) > 0.2
    with pytest.raises(errors.InputError, match='others to be scored on, got 1'):
        measure.position_decodability(convolution('SAME'), images[:1])


class Foreign(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.Conv(4, (3, 3), name='first')(x))
        x = nn.Sequential([nn.Conv(5, (3, 3), (2, 2)), nn.Conv(6, (1, 1))], name='more')(x)
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x).mean((1, 2)))


def test_layers_of_any_model_are_found_by_their_maps():
    model, images = Foreign(), jnp.asarray(RANDOM.standard_normal((2, 8, 8, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), images, train=False)
    found = measure.layers(model, variables, (8, 8, 1), train=False)
    shapes = {name: function(images).shape for name, function in found.items()}
    assert shapes['first'] == (2, 8, 8, 4) and shapes['more'] == (2, 4, 4, 6) and shapes['Conv_0'] == (2, 4, 4, 5)
    assert not any(name.startswith('Dense') for name in found)
    kernel = variables['params']['first']
    np.testing.assert_allclose(found['first'](images), ops.shared(images, kernel['kernel']) + kernel['bias'], atol=1e-5)
