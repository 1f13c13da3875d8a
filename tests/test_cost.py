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

from cnn_research import cost, errors, geometry, layers, schemes
from cnn_research.config import ModelConfig
from cnn_research.geometry import Geometry

NAMES = ('shared', 'coordinates', 'tiled:2x2', 'low_rank:3', 'low_rank:2:row_column', 'averaged:2', 'local', 'masked_dense', 'dense')


def counts(name, features, kernel_size, image, padding='SAME', strides=(1, 1), dilation=(1, 1)):
    """Counts of one map without biases."""
    g = Geometry(image[:2], kernel_size, strides, padding, dilation)
    return cost.spatial_map(schemes.parse(name), g, image[2], features)


def test_32_maps_on_720p_cost_what_the_project_says():
    rows = [counts(name, 32, (3, 3), (720, 1280, 3)) for name in ('shared', 'local', 'dense')]
    assert [row.weights for row in rows] == [864, 796_262_400, 81_537_269_760_000]
    assert [cost.human_bytes(row.parameter_bytes) for row in rows] == ['3.46 kB', '3.19 GB', '326 TB']


def test_one_unit_costs_what_the_project_says():
    assert counts('shared', 1, (5, 5), (100, 100, 1)).weights == 25
    # a filter as large as the image, without padding, is one dense unit
    for image, expected in [((100, 100, 1), 10_000), ((720, 720, 3), 1_555_200)]:
        assert {counts(name, 1, image[:2], image, 'VALID').weights for name in ('shared', 'local', 'masked_dense', 'dense')} == {expected}
    rows = cost.layers(ModelConfig((), (), (), (), ()), (720, 1280, 3), 1)
    assert [(row.name, row.output, row.connections) for row in rows] == [('classes', (1,), 2_764_800)]


@pytest.mark.parametrize('padding', ['SAME', 'CIRCULAR'])
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize(
    ('kernel_size', 'strides', 'dilation'), [((3, 3), (1, 1), (1, 1)), ((2, 1), (2, 1), (2, 1))], ids=['k3', 'strided_dilated']
)
def test_connections_are_the_pairs_that_the_layer_connects(kernel_size, strides, dilation, name, padding):
    image, features = (5, 4, 2), 3
    pixels = np.eye(math.prod(image), dtype=np.float32).reshape(-1, *image)  # one image for each input
    layer = layers.SpatialMap(features, kernel_size, strides, padding, dilation, use_bias=False, scheme=name)
    shapes = jax.eval_shape(layer.init, jax.random.key(0), pixels)['params']
    params = {n: jnp.full(leaf.shape, n != 'coordinates', jnp.float32) for n, leaf in shapes.items()}  # those add the same to all images
    y = np.asarray(layer.apply({'params': params}, pixels))
    row = counts(name, features, kernel_size, image, padding, strides, dilation)
    assert row.output == y.shape[1:]
    assert row.connections == np.count_nonzero(y)
    assert row.activation_bytes == y[0].nbytes
    stored = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert row.parameter_bytes == 4 * stored and row.optimizer_bytes('adam') == 8 * stored and row.optimizer_bytes('sgd') == 4 * stored
    assert row.weights == (np.count_nonzero(y) if name == 'masked_dense' else stored)


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
                everything, under = math.prod(image), rows_seen * columns_seen * channels
                connections += (everything if stage.sharing == 'dense' else under) * stage.features
                if stage.sharing.endswith('dense'):
                    macs += everything * stage.features
                elif stage.sharing.startswith('low_rank'):  # K convolutions, and the sum over K
                    macs += int(stage.sharing.split(':')[1]) * (stage.kernel_size**2 * channels + 1) * stage.features
                else:
                    macs += stage.kernel_size**2 * channels * stage.features
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
    extra = [2 if model.norm == 'batch' else model.biases == 'all'] * len(model.hidden) + [model.biases != 'none']
    ends = [(b, (a + more) * b, a * b, a * b) for (a, b), more in zip(itertools.pairwise(units), extra)]
    assert [(*row.output, row.weights, row.connections, row.macs) for row in rows[len(stages) :]] == ends
    sums = tuple(sum(column) for column in list(zip(*rows))[2:5])
    assert cost.total(model, (height, width, channels), classes) == sums


def test_what_does_not_fit_is_refused_with_what_to_do():
    with pytest.raises(errors.InputError, match='kernel of 9 is larger than its input of 8 pixels: use a smaller'):
        cost.layers(ModelConfig(**{**ONE, 'kernel_sizes': (9,)}), (8, 16, 1), 10)
    with pytest.raises(errors.InputError, match='stage 1 pools 2 x 2 of 1 x 4: fewer stages or a larger canvas'):
        cost.layers(ModelConfig(kernel_sizes=(1, 1)), (2, 8, 1), 10)


@pytest.mark.parametrize(
    ('count', 'text'),
    [
        (0, '0 B'),
        (864, '864 B'),
        (999_400, '999 kB'),
        (999_500, '1 MB'),
        (3_456, '3.46 kB'),
        (326_149_079_040_000, '326 TB'),
        (10**25, '1e+07 EB'),
    ],
)
def test_bytes_are_said_with_three_digits(count, text):
    assert cost.human_bytes(count) == text


def test_memory_is_what_control_groups_allow(tmp_path):
    groups, mounted = tmp_path / 'cgroup', tmp_path / 'mounted'
    assert cost._group_limits(groups, mounted) == [2**63]  # not on Linux
    (mounted / 'memory/slurm/job').mkdir(parents=True)
    (mounted / 'one/two').mkdir(parents=True)
    (mounted / 'memory/slurm/job/memory.limit_in_bytes').write_text('5000\n')
    (mounted / 'memory/memory.limit_in_bytes').write_text('7000\n')
    (mounted / 'one/two/memory.max').write_text('max\n')
    (mounted / 'one/memory.max').write_text('3000\n')
    for text, least in (
        ('4:memory:/slurm/job\n3:cpu:/slurm/job\n', 5000),
        ('0::/one/two\n', 3000),
        ('4:memory:/seen/from/outside\n', 7000),
    ):
        groups.write_text(text)
        assert min(cost._group_limits(groups, mounted)) == least
