"""All ways to compute a convolution are the same convolution, and the choice between them takes only what it can have."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import lax
from test_sharing import compiled, geometries
from test_train import BASE, posed

from cnn_research import data, direct, engine, frequency, lowering, ops, sweep, trainings
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig
from cnn_research.geometry import PADDINGS, Geometry


def with_gradients(way, g, x, kernel, cotangent):
    y, back = jax.vjp(lambda x, kernel: lowering.WAYS[way](x, kernel, g), x, kernel)
    return y, *back(cotangent)


def all_ways(g, channels, features, images, dtype):
    """(y, dx, dkernel) by every way that can, the plainest first."""
    rng = np.random.default_rng(0)
    shapes = (images, *g.image, channels), (*g.kernel_size, channels, features), (images, *g.positions, features)
    arrays = [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    names = ['patches', *(name for name in lowering.possible(g) if name != 'patches')]
    return dict(zip(names, compiled(lambda *a: [with_gradients(name, g, *a) for name in names])(*arrays)))


def check_alike(found, dtype, within):
    plain = found.pop('patches')
    for name, got in found.items():
        for array, wanted in zip(got, plain):
            assert array.dtype == dtype and array.shape == wanted.shape, name
            np.testing.assert_allclose(array, wanted, rtol=0, atol=within * max(1e-30, np.abs(wanted).max()), err_msg=name)


@pytest.mark.slow
@settings(
    max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(g=geometries(), channels=st.sampled_from([1, 2, 8]), features=st.integers(1, 3), images=st.sampled_from([1, 2, 9]))
def test_all_ways_are_alike_in_float64(x64, g, channels, features, images):
    check_alike(all_ways(g, channels, features, images, np.float64), np.float64, 1e-10)


@pytest.mark.slow
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(g=geometries(), channels=st.sampled_from([1, 8]), features=st.integers(1, 3))
def test_all_ways_are_alike_in_float32(g, channels, features):
    check_alike(all_ways(g, channels, features, 3, np.float32), np.float32, 1e-5)


@pytest.mark.parametrize('padding', PADDINGS)
def test_frequencies_keep_float32_where_filters_and_images_are_large(padding):
    g = Geometry((40, 33), (31, 20), padding=padding)
    check_alike(all_ways(g, 3, 2, 2, np.float32), np.float32, 1e-5)


@pytest.mark.parametrize('padding', PADDINGS)
def test_frequencies_are_those_of_the_fourier_transform(padding):
    """A single image and filter, at the points of numpy's FFT on the same circle."""
    g = Geometry((7, 10), (3, 4), padding=padding)
    rng, t = np.random.default_rng(0), frequency.transforms(g)
    x = rng.normal(size=g.image)
    half = (t['inputs'].rows @ x).reshape(-1, 2, g.image[1])
    points = np.einsum('pq,uq->up', t['inputs'].columns, half.reshape(len(half), -1)).reshape(len(half), -1, 3)
    circle = 2 * len(half) - 2, points.shape[1]
    if not np.allclose(np.fft.rfft2(x.T, s=circle[::-1]).T[:, 0], points[:, 0, 0] + 1j * points[:, 0, 1]):
        circle = 2 * len(half) - 1, points.shape[1]
    expected = np.fft.fft2(x, s=circle)[: len(half)]
    np.testing.assert_allclose(points[..., 0] + 1j * points[..., 1], expected, atol=1e-12)
    np.testing.assert_allclose(points[..., 2], expected.real + expected.imag, atol=1e-12)


@pytest.mark.parametrize('padding', PADDINGS)
def test_frequencies_leave_black_exactly_black(padding):
    g = Geometry((12, 11), (3, 2), (2, 1), padding, (1, 2))
    rng, x = np.random.default_rng(0), np.zeros((2, 12, 11, 3), np.float32)
    x[0, 4:6, 5] = rng.normal(size=(2, 3))
    y = frequency.convolution(x, jnp.asarray(rng.normal(size=(3, 2, 3, 4)), jnp.float32), g)
    rows, columns = g.pixels(0), g.pixels(1)
    sees = np.isin(rows, (4, 5)).any(1)[:, None] & (columns == 5).any(1)[None]
    np.testing.assert_array_equal(np.asarray(y[0] != 0).all(-1), sees)
    assert not np.any(y[1])


@pytest.mark.parametrize('platform', ['cpu', 'gpu', 'tpu'])
def test_a_choice_is_possible_and_small_types_are_never_rounded_in_frequencies(platform):
    chosen = set()
    for g in (Geometry((28, 28), (9, 9)), Geometry((28, 28), (3, 3)), Geometry((28, 28), (5, 5), (2, 2)), Geometry((9, 9), (1, 1))):
        for channels, features in ((1, 32), (32, 64)):
            way = lowering.choose(platform, g, channels, features, 4)
            assert way in lowering.possible(g)
            chosen.add(way)
            assert lowering.choose(platform, g, channels, features, 2) != 'frequency'
    assert chosen == ({'blocks', 'patches', 'frequency'} if platform == 'cpu' else {'xla'})


def test_the_shared_map_is_computed_as_chosen(monkeypatch):
    calls = []
    monkeypatch.setitem(lowering.WAYS, 'xla', lambda x, kernel, g: calls.append(g) or direct.by_xla(x, kernel, g))
    monkeypatch.setattr(lowering, 'choose', lambda *args: 'xla')
    ops.shared(jnp.zeros((1, 5, 5, 2)), jnp.zeros((3, 3, 2, 1)), (2, 2), 'VALID')
    assert calls == [Geometry((5, 5), (3, 3), (2, 2), 'VALID')]


@pytest.mark.slow
@pytest.mark.parametrize('scheme', ['shared', 'low_rank:2'])
def test_training_is_the_same_by_every_way(scheme, x64, monkeypatch):
    """The state after 20 steps in float64."""
    model = ModelConfig((8, 3), (3, 2), (1, 1), (2, 1), (scheme,) * 2, norm='batch', head='gmp')
    p, arrays, _ = posed(dataclasses.replace(BASE, model=model))
    arrays = jax.tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, arrays)
    data, order = arrays._replace(train=None, validation=None, test=None, unseen=None), jnp.arange(96, dtype=jnp.int32)
    state = jax.jit(functools.partial(engine.init, p.program))(np.uint32(0))
    state = jax.tree.map(lambda a: a.astype(np.float64) if a.dtype == np.float32 else a, state)

    def run(way):
        monkeypatch.setattr(lowering, 'choose', lambda *args: way)
        steps = functools.partial(engine.chunk, p.program, p.setting)

        def epochs(state, data):
            return lax.fori_loop(0, 4, lambda _, s: steps(s, nothing, data, np.uint32(0), order, 0, 5)[0], state)

        return jax.jit(epochs)(state, data)

    nothing = engine.NOTHING._replace(loss=np.float64(0))
    expected = run('patches')
    assert int(expected.step) == 20
    for way in ('xla', 'blocks', 'frequency'):
        for got, wanted in zip(jax.tree.leaves(run(way)), jax.tree.leaves(expected)):
            np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10, err_msg=way)


@pytest.mark.slow
def test_experiments_find_the_same_by_every_way(monkeypatch):
    """Mean accuracies of whole trainings on digits by every way differ by what rounding grew, and by no more."""
    dataset = data.load('digits')
    training = TrainConfig(epochs=4, batch_size=64, learning_rate=1e-2)
    c = Config(ModelConfig((8, 8)), DataConfig('digits'), training)
    scores = {}
    for way in ('patches', 'xla', 'blocks', 'frequency'):
        monkeypatch.setattr(lowering, 'choose', lambda *args, way=way: way)
        engine.programs.cache_clear()
        rows = [trainings.run_cell('e', sweep.Cell('arm', seed, c, 1), dataset)[0] for seed in range(3)]
        assert {row['status'] for row in rows} == {'ok'}
        scores[way] = [row['test_accuracy'] for row in rows]
    engine.programs.cache_clear()  # none of these is to be met by another test
    assert np.mean(scores['patches']) > 0.8
    for way, found in scores.items():
        assert abs(np.mean(found) - np.mean(scores['patches'])) < 0.015, (way, scores)


def test_a_large_locally_connected_layer_trains_in_bounded_memory():
    """256 x 256 positions with a 7 x 7 filter each, 16 to 16 maps, batch 32: 3.3 GB of weights, and patches that would take 6.6 GB."""
    moves = optax.sgd(0.1, momentum=0.9, nesterov=True)
    kernel = jax.ShapeDtypeStruct((256, 256, 7, 7, 16, 16), jnp.float32)
    maps = jax.ShapeDtypeStruct((32, 256, 256, 16), jnp.float32)

    def step(kernel, state, x, cotangent):
        grads = jax.grad(lambda kernel: jnp.vdot(ops.locally_connected(x, kernel), cotangent))(kernel)
        updates, state = moves.update(grads, state)
        return optax.apply_updates(kernel, updates), state

    state = jax.eval_shape(moves.init, kernel)
    need = jax.jit(step, donate_argnums=(0, 1)).lower(kernel, state, maps, maps).compile().memory_analysis()
    beyond = need.argument_size_in_bytes + need.output_size_in_bytes + need.temp_size_in_bytes - need.alias_size_in_bytes
    beyond -= 3 * 4 * kernel.size  # weights, gradients, momentum
    assert 0 < beyond < 4e9
