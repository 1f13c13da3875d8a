"""The norm comparison is what its formula says, and its learners are what theory speaks of."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_research import learners, norm_learners
from cnn_research.data import load, norms

N, SIDE = 20_000, 3


def test_the_noise_is_normal_and_no_rotation_changes_it():
    x, y = jax.tree.map(np.asarray, norms.gaussian(jax.random.key(0), N, SIDE))
    flat = x.reshape(N, -1)
    assert abs(flat.mean()) < 4 / math.sqrt(flat.size) and abs(flat.var() - 1) < 4 * math.sqrt(2 / flat.size)
    assert np.abs(np.cov(flat.T) - np.eye(2 * SIDE**2)).max() < 5 / math.sqrt(N)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(18, 18)))[0]
    assert abs(np.mean((flat @ rotation) ** 4) - 3) < 0.05
    assert abs(y.mean()) < 4 / math.sqrt(N) and set(y) == {-1, 1}
    expected = np.sign((x[..., 0] ** 2).sum((1, 2)) - (x[..., 1] ** 2).sum((1, 2)))
    assert (y == expected).all()


def test_the_label_turns_with_the_channels_and_not_with_the_positions():
    x, y = norms.gaussian(jax.random.key(1), 100, SIDE)
    order = np.random.default_rng(0).permutation(SIDE**2)
    moved = x.reshape(100, -1, 2)[:, order].reshape(x.shape)

    def label(x):
        squares = jnp.sum(jnp.square(x), axis=(1, 2))
        return jnp.where(squares[:, 0] > squares[:, 1], 1.0, -1.0)

    assert (label(moved) == y).all() and (label(x[..., ::-1]) == -y).all()


def test_images_are_compared_by_red_and_green_and_both_labels_come_equally_often():
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (60, 8, 8, 3), np.uint8)
    images[:40, ..., 0] += 50  # most are red
    found = norms.of_images(images, 4)
    assert sorted(set(found.y)) == [-1, 1] and found.y.sum() == 0 and found.x.shape == (len(found.y), 4, 4, 2)
    squares = (found.x.astype(float) ** 2).sum((1, 2))
    assert ((squares[:, 0] > squares[:, 1]) == (found.y > 0)).all()
    assert np.mean(found.x.astype(float) ** 2) == pytest.approx(1, rel=0.3)  # of all images it is 1, the few of one label were kept
    whole = norms.of_images(images, 8)
    scale = np.sqrt(np.mean(images[..., :2].astype(float) ** 2))
    own = {tuple(np.rint(x * scale).astype(int).ravel()) for x in whole.x}
    assert own < {tuple(image.ravel()) for image in images[..., :2].astype(int)} and len(own) == len(whole.y)


@pytest.mark.parametrize('model', norm_learners.MODELS)
def test_outputs_are_those_of_plain_numpy(model):
    learning = norm_learners.Comparing('norm_comparison', model, SIDE)
    weights = jax.tree.map(np.asarray, norm_learners.start(learning, jax.random.key(2)))
    x = np.random.default_rng(1).normal(size=(5, SIDE, SIDE, 2)).astype(np.float32)
    found = norm_learners.output(learning, weights, jnp.asarray(x))
    if model.startswith('conv'):
        y = x
        for i in range(2):
            padded, out = np.pad((y**2 if 'quadratic' in model else np.maximum(y, 0)) if i else y, ((0, 0), (1, 1), (1, 1), (0, 0))), []
            for r in range(SIDE):
                out.append([np.einsum('nabc,abcf->nf', padded[:, r : r + 3, c : c + 3], weights[f'conv_{i}']) for c in range(SIDE)])
            y = np.moveaxis(np.array(out), 2, 0)
        expected = y.mean((1, 2, 3))
    else:
        units = x.reshape(5, -1) @ weights['hidden']
        expected = (units**2 if 'quadratic' in model else np.maximum(units, 0)) @ weights['out'][:, 0]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    sizes = {name: leaf.shape for name, leaf in weights.items()}
    if model.startswith('dense'):
        assert sizes == {'hidden': (18, 36), 'out': (36, 1)}
    else:
        assert sizes == {'conv_0': (3, 3, 2, 10), 'conv_1': (3, 3, 10, 1)}


@pytest.mark.parametrize('model', ['dense_quadratic_sgd', 'dense_relu_sgd', 'dense_relu_adam'])
def test_plain_descent_of_a_dense_layer_turns_with_its_inputs_and_adam_does_not(model, monkeypatch):
    """What the lower bound rests on: rotated examples and a rotated start give the rotated weights, and the same answers."""
    monkeypatch.setattr(learners, 'STEPS', 30)
    learning = norm_learners.Comparing('norm_comparison', model, 2)
    x, y = norms.gaussian(jax.random.key(3), 64, 2)
    rotation = jnp.asarray(np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0], jnp.float32)
    weights = norm_learners.start(learning, jax.random.key(4))

    def answers(x, weights):
        def loss(weights, nothing, done, batch):
            return jnp.mean(jax.nn.softplus(-y[batch] * norm_learners.output(learning, weights, x[batch])))

        rates = jnp.array([0.03])
        optimizer = norm_learners.OPTIMIZERS[model.rpartition('_')[2]]
        trained = learners.descended(loss, weights, rates, rates, optimizer, jax.random.key(5), 64)
        return norm_learners.output(learning, jax.tree.map(lambda w: w[0], trained), x)

    turned = (x.reshape(64, 8) @ rotation).reshape(x.shape)
    same = answers(turned, {**weights, 'hidden': rotation.T @ weights['hidden']})
    off = float(jnp.max(jnp.abs(answers(x, weights) - same)))
    assert off < 1e-3 if 'sgd' in model else off > 1e-2


@pytest.mark.parametrize(('model', 'rates'), [('conv_relu_sgd', (0.03, 0.1, 0.3)), ('dense_quadratic_adam', (0.001, 0.003, 0.01))])
def test_rates_together_are_each_alone(model, rates, monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 200)
    jax.clear_caches()
    learning = norm_learners.Comparing('norm_comparison', model, 3)
    rates = np.array(rates, np.float32)

    def evaluated(rates):
        return np.asarray(norm_learners.of_noise(learning, 256, np.uint32(1), np.int32(200), rates))

    together = evaluated(rates)
    np.testing.assert_allclose(together, [evaluated(rates[i : i + 1])[0] for i in range(3)], atol=0.004)
    assert together.max() > 0.6
    jax.clear_caches()


def test_few_examples_teach_a_convolution_and_not_a_dense_layer():
    conv, dense = (
        norm_learners.Comparing('norm_comparison', model, 4).evaluated(256, 7).max() for model in ('conv_relu_sgd', 'dense_relu_sgd')
    )
    assert conv > 0.78 > 0.72 > dense


def test_descent_is_optax_stepwise(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 5)
    start, target = jnp.array([3.0, -2.0]), jnp.array([[1.0, 1.0], [2.0, 0.0], [0.0, 4.0]])

    def loss(params, other, done, batch):
        return jnp.mean(jnp.square(params - target[batch])) * other

    found = learners.descended(loss, start, jnp.array([0.1, 0.2]), jnp.array([1.0, 0.5]), optax.scale_by_adam(), jax.random.key(0), 3)
    for s, (rate, other) in enumerate(((0.1, 1.0), (0.2, 0.5))):
        falls = lambda i, rate=rate: rate * 0.5 * (1 + math.cos(math.pi * i / 5))  # noqa: E731
        params, optimizer = start, optax.adam(lambda i, falls=falls: jnp.array([falls(j) for j in range(5)])[i])
        state = optimizer.init(params)
        for i in range(5):
            batch = jax.random.randint(jax.random.fold_in(jax.random.key(0), i), (learners.BATCH,), 0, 3)
            updates, state = optimizer.update(jax.grad(loss)(params, other, i / 5, batch), state)
            params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(found[s], params, rtol=1e-5)


def test_images_of_a_set_are_learned_from_the_first_n_of_a_random_order(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 50)
    jax.clear_caches()
    digits = load('digits')
    colour = np.concatenate([digits.train_images, digits.train_images[::-1], digits.train_images], axis=3)
    train, test = norms.of_images(colour[:800], 4), norms.of_images(colour[800:], 4)
    learning = norm_learners.Comparing('norm_comparison/any', 'dense_relu_adam', 4)
    rates = np.array([0.003], np.float32)
    found = norm_learners.of_images(learning, train, test, np.uint32(0), np.int32(20), rates)
    chosen = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(np.uint32(0)), 0), len(train.y)))
    first = norms.Compared(train.x[chosen], train.y[chosen])
    spoiled = norms.Compared(np.where(np.arange(len(chosen))[:, None, None, None] < 20, first.x, 0), first.y)
    again = norm_learners._trained(
        learning, *(jax.tree.map(jnp.asarray, one) for one in (spoiled, test)), np.uint32(0), np.int32(20), rates
    )
    np.testing.assert_allclose(found, again)  # what comes after the first n is never seen
    jax.clear_caches()
