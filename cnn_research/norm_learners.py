"""Dense layers and convolutions that learn which of two channels has the larger norm, by plain gradient descent and by Adam.

    dense    f(x) = a . s(W x)                2 D units
    conv     f(x) = mean(C2 s(C1 x))          two convolutions of 3 x 3 filters, 10 maps and 1, the mean over all positions

with s(u) = u^2 (quadratic) or max(u, 0) (relu). None has a bias: the label does not change with the length of x. Plain gradient descent from a Gaussian start treats all directions of the
inputs alike, and theory has a lower bound for it; Adam sees coordinates, and is exempt (Li, Zhang and Arora 2021, theorem 5.2, section 6).
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from cnn_research import data, learners, ops
from cnn_research.data import norms

MODELS = tuple('_'.join(parts) for parts in itertools.product(('conv', 'dense'), ('quadratic', 'relu'), ('sgd', 'adam')))
OPTIMIZERS = {'sgd': optax.identity(), 'adam': optax.scale_by_adam()}
RATES = {'sgd': (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), 'adam': (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)}  # that are tried at every n
_MAPS = (10, 1)


@dataclasses.dataclass(frozen=True)
class Comparing:
    """Images of two channels and this side, and what compares them: one of `MODELS`. See `learners.Learner`.

    task: 'norm_comparison' of normal noise, or 'norm_comparison/NAME' of the red and green of a data set of colour images.
    """

    task: str
    model: str
    side: int

    @property
    def size(self) -> tuple[int]:
        """The side."""
        return (self.side,)

    @property
    def inputs(self) -> int:
        """D."""
        return 2 * self.side**2

    @property
    def settings(self) -> learners.Settings:
        """Rates."""
        return tuple((rate,) for rate in RATES[self.model.rpartition('_')[2]])

    @property
    def effort(self) -> int:
        """Of multiply-adds, and of what every step costs."""
        maps = (2, *_MAPS)
        convolved = sum(9 * a * b for a, b in itertools.pairwise(maps)) * self.side**2
        return 20_000 + (2 * self.inputs**2 if self.model.startswith('dense') else 4 * convolved)

    def available(self, source: Any) -> int:
        """The most examples that fit, or that the data set has."""
        return 2**20 if '/' not in self.task else len(_images(self.task.partition('/')[2], self.side, source)[0].y)

    def evaluated(self, n: int, seed: int, source: Any = None) -> np.ndarray:
        """The accuracies [S] at all rates."""
        rates, seed_, n_ = np.array(self.settings, np.float32)[:, 0], np.uint32(seed), np.int32(n)
        if '/' not in self.task:
            return np.asarray(of_noise(self, learners.pool_for(n), seed_, n_, rates))
        train, test = _images(self.task.partition('/')[2], self.side, source)
        return np.asarray(of_images(self, train, test, seed_, n_, rates))


@functools.lru_cache(2)
def _images(name: str, side: int, source: Any) -> tuple[norms.Compared, norms.Compared]:
    dataset = data.load(name, **source._asdict())
    return norms.of_images(dataset.train_images, side), norms.of_images(dataset.test_images, side)


def start(learning: Comparing, key: jax.Array) -> dict[str, jax.Array]:
    """Gaussian weights, under which what goes into each layer has the variance of the inputs; one root mean square for all of a layer."""
    if learning.model.startswith('conv'):
        shapes = {f'conv_{i}': (3, 3, a, b) for i, (a, b) in enumerate(zip((2, *_MAPS), _MAPS))}
    else:
        shapes = {'hidden': (learning.inputs, 2 * learning.inputs), 'out': (2 * learning.inputs,)}
    # He et al. 2015: sqrt(2) makes up for what a ReLU takes away.
    gain = 1.0 if 'quadratic' in learning.model else math.sqrt(2)
    fan_in = {name: math.prod(shape[:-1]) if len(shape) > 1 else shape[0] for name, shape in shapes.items()}
    return {
        name: gain / math.sqrt(fan_in[name]) * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def output(learning: Comparing, weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """f [n] of examples [n, side, side, 2]; its sign is the answer."""
    activation = jnp.square if 'quadratic' in learning.model else jax.nn.relu
    if learning.model.startswith('conv'):
        return jnp.mean(ops.shared(activation(ops.shared(x, weights['conv_0'])), weights['conv_1']), axis=(1, 2, 3))
    return activation(x.reshape(len(x), -1) @ weights['hidden']) @ weights['out']


def _trained(
    learning: Comparing, train: norms.Compared, test: norms.Compared, seed: ArrayLike, n: ArrayLike, rates: jax.Array
) -> jax.Array:
    """The accuracy [S] on `test` after training on the first n of `train`."""
    first, order = (jax.random.fold_in(jax.random.key(seed), purpose) for purpose in (2, 3))

    def loss(weights: dict[str, jax.Array], nothing: jax.Array, done: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.mean(jax.nn.softplus(-train.y[batch] * output(learning, weights, train.x[batch])))

    optimizer = OPTIMIZERS[learning.model.rpartition('_')[2]]
    weights = learners.descended(loss, start(learning, first), rates, jnp.zeros_like(rates), optimizer, order, n)
    return jax.lax.map(lambda own: jnp.mean(test.y * output(learning, own, test.x) > 0), weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def of_noise(learning: Comparing, pool: int, seed: ArrayLike, n: ArrayLike, rates: jax.Array) -> jax.Array:
    """The accuracy [S] on fresh examples of trainings on the same n of normal noise, the first of `pool`, at rates [S]."""
    drawn, tested = (jax.random.fold_in(jax.random.key(seed), purpose) for purpose in (0, 1))
    train, test = norms.gaussian(drawn, pool, learning.side), norms.gaussian(tested, learners.TEST, learning.side)
    return _trained(learning, train, test, seed, n, rates)


@functools.partial(jax.jit, static_argnums=0)
def of_images(
    learning: Comparing, train: norms.Compared, test: norms.Compared, seed: ArrayLike, n: ArrayLike, rates: jax.Array
) -> jax.Array:
    """The accuracy [S] on all of `test` of trainings on the same n of `train`, drawn by the seed, at rates [S]."""
    chosen = jax.random.permutation(jax.random.fold_in(jax.random.key(seed), 0), len(train.y))
    shuffled = norms.Compared(jnp.asarray(train.x)[chosen], jnp.asarray(train.y)[chosen])
    return _trained(learning, shuffled, norms.Compared(jnp.asarray(test.x), jnp.asarray(test.y)), seed, n, rates)
