"""The counts: the numbers that the project names, and counting one by one what the layers really connect."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_config import ONE, model_configs

from cnn_research import cost, errors, geometry, layers
from cnn_research.config import ModelConfig, Stage


def weights(features, kernel_size, sharing, image, padding='SAME'):
    """Weights of one stride 1 map without biases."""
    return cost.spatial_map(Stage(features, kernel_size, 1, 1, sharing), padding, image, bias=False)[1].weights


def test_32_maps_on_720p_cost_what_the_project_says():
    counts = [weights(32, 3, sharing, (720, 1280, 3)) for sharing in ('shared', 'local', 'dense')]
    assert counts == [864, 796_262_400, 81_537_269_760_000]


def test_one_unit_costs_what_the_project_says():
    assert weights(1, 5, 'shared', (100, 100, 1)) == 25
    # a filter as large as the image, without padding, is one dense unit
    for image, expected in [((100, 100, 1), 10_000), ((720, 720, 3), 1_555_200)]:
        counts = {weights(1, image[0], sharing, image, 'VALID') for sharing in layers.SCHEMES}
        assert counts == {expected}
    rows = cost.layers(ModelConfig((), (), (), (), ()), (720, 1280, 3), 1)
    assert [(row.name, row.output, row.connections) for row in rows] == [('classes', (1,), 2_764_800)]


@pytest.mark.parametrize('padding', geometry.PADDINGS)
@pytest.mark.parametrize('sharing', layers.SCHEMES)
@pytest.mark.parametrize(('kernel_size', 'stride'), [(3, 1), (2, 2)], ids=['k3', 'k2_strided'])
def test_connections_are_the_pairs_that_the_layer_connects(kernel_size, stride, sharing, padding):
    image, features = (5, 4, 2), 3
    pixels = np.eye(math.prod(image), dtype=np.float32).reshape(-1, *image)  # one image for each input
    sizes = ((kernel_size,) * 2, (stride,) * 2, padding)
    layer = layers.scheme(sharing)(features, *sizes, use_bias=False)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), pixels)
    y = layer.apply(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes), pixels)
    shape, counts = cost.spatial_map(Stage(features, kernel_size, stride, 1, sharing), padding, image, bias=False)
    assert shape == y.shape[1:]
    assert set(np.unique(y)) <= {0, 1}
    assert counts.connections == np.count_nonzero(y)
    assert counts.weights == sum(leaf.size for leaf in jax.tree.leaves(shapes))


def counted_by_hand(model, image):
    """(connections, macs) of the stages, pair by pair."""
    connections = macs = 0
    for row, stage in zip(cost.layers(model, image, 1), model.stages()):
        height, width, channels = image
        seen = []
        for size in (height, width):
            axis = (size, stage.kernel_size, stage.stride, model.padding)
            positions, low = geometry.output_size(*axis), geometry.pads(*axis)[0]
            pixels = [[i * stage.stride + tap - low for tap in range(stage.kernel_size)] for i in range(positions)]
            seen.append([sum(model.padding == 'CIRCULAR' or 0 <= p < size for p in at) for at in pixels])
        for rows_seen in seen[0]:
            for columns_seen in seen[1]:
                dense = stage.sharing == 'dense'
                pairs = math.prod(image) if dense else rows_seen * columns_seen * channels
                connections += pairs * stage.features
                macs += (pairs if dense else stage.kernel_size**2 * channels) * stage.features
        image = row.output
    return connections, macs


@settings(max_examples=100, deadline=None, derandomize=True)
@given(model_configs(), st.integers(3, 9), st.integers(3, 9), st.integers(1, 3), st.integers(1, 9))
def test_connections_and_macs_are_counted_pair_by_pair(model, height, width, channels, classes):
    try:
        rows = cost.layers(model, (height, width, channels), classes)
    except errors.InputError:
        assume(False)
    stages = rows[: len(model.features)]
    expected = counted_by_hand(model, (height, width, channels))
    assert (sum(row.connections for row in stages), sum(row.macs for row in stages)) == expected
    maps = stages[-1].output if stages else (height, width, channels)
    units = [maps[2] if model.head != 'flatten' else math.prod(maps), *model.hidden, classes]
    ends = [(b, (a + 1) * b, a * b, a * b) for a, b in itertools.pairwise(units)]
    assert [(*row.output, row.weights, row.connections, row.macs) for row in rows[len(stages) :]] == ends
    sums = tuple(sum(column) for column in list(zip(*rows))[2:])
    assert cost.total(model, (height, width, channels), classes) == sums


def test_what_does_not_fit_is_refused_with_what_to_do():
    with pytest.raises(errors.InputError, match='kernel of 9 is larger than its input of 8 pixels: use a smaller'):
        cost.layers(ModelConfig(**{**ONE, 'kernel_sizes': (9,)}), (8, 16, 1), 10)
    with pytest.raises(errors.InputError, match='stage 1 pools 2 x 2 of 1 x 4: fewer stages or a larger canvas'):
        cost.layers(ModelConfig(kernel_sizes=(1, 1)), (2, 8, 1), 10)
