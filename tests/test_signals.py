"""The signal tasks are what their formulas say, and their learners plain stochastic gradient descent."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_research import learners, signal_learners
from cnn_research.data import signals

KEY = jax.random.key(0)
N, PATCHES, DIMENSION, SIGMA = 20_000, 6, 5, 0.3


def drawn(task, key=KEY, n=N):
    w = signals.direction(jax.random.key(7), DIMENSION)
    return np.asarray(w), jax.tree.map(np.asarray, task(key, w, n, PATCHES, SIGMA))


@pytest.mark.parametrize('task', [signals.dynamic_signal, signals.static_signal])
def test_what_is_left_without_the_signal_is_normal_noise(task):
    w, (x, y, patch) = drawn(task)
    noise = x.copy()
    noise[np.arange(N), patch] -= y[:, None] * w
    error = SIGMA / math.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error and abs(noise.std() / SIGMA - 1) < 4 / math.sqrt(2 * noise.size)
    covariance = np.cov(noise.reshape(N, -1).T) / SIGMA**2 - np.eye(PATCHES * DIMENSION)
    assert np.abs(covariance).max() < 6 / math.sqrt(N)  # of 900 entries the largest
    assert abs(np.mean((noise / SIGMA) ** 4) - 3) < 0.05
    assert abs(y.mean()) < 4 / math.sqrt(N) and set(y) == {-1, 1}
    assert abs(np.corrcoef(y, patch)[0, 1]) < 4 / math.sqrt(N) if patch.any() else (patch == 0).all()


def test_the_signal_is_a_unit_vector_in_any_direction_and_its_patch_is_drawn_evenly():
    w, (_, _, patch) = drawn(signals.dynamic_signal)
    assert np.linalg.norm(w) == pytest.approx(1, abs=1e-6)
    counts = np.bincount(patch, minlength=PATCHES)
    assert np.abs(counts - N / PATCHES).max() < 4.5 * math.sqrt(N / PATCHES)
    many = np.stack([signals.direction(jax.random.key(i), 3) for i in range(500)])
    assert np.abs(many.mean(axis=0)).max() < 4 / math.sqrt(3 * 500)


def test_patches_may_change_places_and_examples_may_be_turned_but_not_the_static_ones():
    """x of a patch at place p is noise + y w wherever p is, so moving patches moves the draw; a rotation of w rotates the signal alone."""
    w, (x, y, patch) = drawn(signals.dynamic_signal, n=64)
    turned, (x_turned, y_turned, _) = -w, drawn(signals.dynamic_signal, n=64)[1]
    again = jax.tree.map(np.asarray, signals.dynamic_signal(KEY, jnp.asarray(turned), 64, PATCHES, SIGMA))
    difference = again.x - x
    assert (again.y == y).all() and (again.patch == patch).all() and (x_turned == x).all() and (y_turned == y).all()
    expected = np.zeros_like(x)
    expected[np.arange(64), patch] = -2 * y[:, None] * w
    np.testing.assert_allclose(difference, expected, atol=1e-6)
    static = drawn(signals.static_signal, n=2000)[1]
    means = np.mean(static.x * static.y[:, None, None], axis=0) @ w
    assert means[0] > 0.95 and np.abs(means[1:]).max() < 0.05  # a permutation of patches would be seen


def evaluated(learning, n, seed, settings):
    """Accuracies in settings of the test's own."""
    thresholds, rates = np.array(settings, np.float32).T
    return np.asarray(signal_learners.accuracies(learning, learners.pool_for(n), np.uint32(seed), np.int32(n), rates, thresholds))


def reference(learning, weights, x, threshold):
    """f in numpy, unit by unit."""
    total = np.zeros(len(x))
    for p in range(learning.patches):
        if learning.model == 'dense':
            u = np.einsum('npi,pi->n', x, weights[p])
        else:
            u = x[:, p] @ (weights[p] if learning.model == 'local' else weights)
        total += np.sign(u) * np.maximum(np.abs(u) - threshold, 0)
    return total


@pytest.mark.parametrize('model', signal_learners.MODELS)
def test_the_output_is_the_sum_of_soft_thresholds(model):
    learning = signal_learners.Learning('dynamic_signal', model, PATCHES, DIMENSION, 0.2)
    random = np.random.default_rng(0)
    weights, x = random.normal(size=learning.shape), random.normal(size=(30, PATCHES, DIMENSION))
    found = signal_learners.output(learning, jnp.asarray(weights), jnp.asarray(x), 0.7)
    np.testing.assert_allclose(found, reference(learning, weights, x, 0.7), rtol=1e-5, atol=1e-5)
    assert np.prod(learning.shape) == {'dense': 180, 'local': 30, 'shared': 5}[model]


@pytest.mark.parametrize('model', signal_learners.MODELS)
def test_settings_together_are_each_alone(model, monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 400)
    jax.clear_caches()
    learning = signal_learners.Learning('dynamic_signal', model, 4, 5, 0.2)
    tried = [(0.5, 1.0), (1.0, 3.0), (2.0, 10.0)]
    together = evaluated(learning, 100, 3, tried)
    alone = [evaluated(learning, 100, 3, [setting])[0] for setting in tried]
    np.testing.assert_allclose(together, alone, atol=0.004)
    assert together[0] > 0.85
    jax.clear_caches()


def test_pools_hold_what_is_asked_for_and_are_few():
    pools = [learners.pool_for(n) for n in range(1, 1000)]
    assert all(n <= pool < 2 * n + 2 for n, pool in enumerate(pools, 1)) and len(set(pools)) == 10


def test_a_filter_that_starts_the_wrong_way_round_comes_back():
    """With all of the threshold from the start it would fall silent: one seed in ten, at any number of examples."""
    learning = signal_learners.Learning('dynamic_signal', 'shared', 8, 4, 0.2)
    assert min(evaluated(learning, 256, seed, [(2.0, 1.0)])[0] for seed in range(24)) > 0.9


def test_training_follows_the_gradient_downhill_as_numpy_does(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 3)
    monkeypatch.setattr(learners, 'TEST', 500)
    learning = signal_learners.Learning('static_signal', 'local', 3, 4, 0.2)
    jax.clear_caches()
    found = evaluated(learning, 8, 5, [(0.3, 2.0)])[0]
    direction, pool, tested, start, order = (jax.random.fold_in(jax.random.key(np.uint32(5)), purpose) for purpose in range(5))
    w = signals.direction(direction, 4)
    examples, fresh = (jax.tree.map(np.asarray, signals.static_signal(key, w, n, 3, 0.2)) for key, n in ((pool, 8), (tested, 500)))
    weights = 3 / 2 * np.asarray(jax.random.normal(start, (3, 4)))
    for i in range(3):
        batch = np.asarray(jax.random.randint(jax.random.fold_in(order, i), (learners.BATCH,), 0, np.int32(8)))
        x, y = examples.x[batch], examples.y[batch]
        risen = 0.3 * min(1, 2 * i / 3)
        wrong = -y / (1 + np.exp(y * reference(learning, weights, x, risen)))
        open_ = np.abs(np.einsum('npi,pi->np', x, weights)) > risen
        gradient = np.einsum('n,np,npi->pi', wrong, open_, x) / len(batch)
        weights = weights - 2.0 * 0.5 * (1 + math.cos(math.pi * i / 3)) * gradient
    assert found == pytest.approx(np.mean(fresh.y * reference(learning, weights, fresh.x, 0.3) > 0), abs=0.003)
    jax.clear_caches()
