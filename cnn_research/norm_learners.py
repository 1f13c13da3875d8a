"""Dense layers and convolutions that learn which of two channels has the larger norm, by plain gradient descent and by Adam.

    dense    f(x) = a . s(W x)                2 D units
    conv     f(x) = mean(C2 s(C1 x))          two convolutions of 3 x 3 filters, 10 maps and 1, the mean over all positions

with s(u) = u^2 (quadratic) or max(u, 0) (relu). No layer has a bias: the label does not change with the length of x. Plain gradient
descent from a Gaussian start treats all directions of the inputs alike, and theory has a lower bound for it; Adam sees coordinates, and is
exempt (Li, Zhang and Arora 2021, theorem 5.2, section 6).
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

from cnn_research import data, errors, learners, needed
from cnn_research.data import norms
from cnn_research.direct import pad, patches

MODELS = tuple('_'.join(parts) for parts in itertools.product(('conv', 'dense'), ('quadratic', 'relu'), ('sgd', 'adam')))
OPTIMIZERS = {'sgd': optax.identity(), 'adam': optax.scale_by_adam()}
RATES = {'sgd': (0.01, 0.03, 0.1, 0.3, 1.0, 3.0), 'adam': (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}  # that are tried at every n
_MAPS = (10, 1)
_FEWEST = 100  # images of a split, half of them redder


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
        """As many as anyone may ask for, or as the data set has. Raises InputError for a data set that has hardly any."""
        return needed.MOST if '/' not in self.task else min(needed.MOST, len(self._images(source)[0].y))

    def evaluated(self, n: int, seed: int, source: Any = None, tuning: bool = False) -> np.ndarray:
        """The accuracies [S] at all rates, on fresh noise, or on the test images of the data set, if tuning on its validation images."""
        rates, seed_, n_ = np.array(self.settings, np.float32)[:, 0], np.uint32(seed), np.int32(n)
        if '/' not in self.task:
            return np.asarray(of_noise(self, learners.pool_for(n), seed_, n_, rates))
        train, validation, test = self._images(source)
        return np.asarray(of_images(self, train, validation if tuning else test, seed_, n_, rates))

    def _images(self, source: Any) -> tuple[norms.Compared, norms.Compared, norms.Compared]:
        return _compared(self.task.partition('/')[2], self.side, source)


@functools.lru_cache(2)
def _compared(name: str, side: int, source: Any) -> tuple[norms.Compared, norms.Compared, norms.Compared]:
    """Training, validation and test images of a data set."""
    dataset = data.load(name, **source._asdict())
    splits = (dataset.train_images, dataset.validation_images, dataset.test_images)
    if splits[0].shape[3] != 3:
        raise errors.InputError(f'{name} has {splits[0].shape[3]} channel, red and green are to be compared: take a set of colour images')
    train, validation, test = (norms.of_images(images, side) for images in splits)
    fewest = min(len(split.y) for split in (train, validation, test))
    if fewest < _FEWEST:
        raise errors.InputError(
            f'{name} has too few images with more red, or more green: {fewest} of both in a split, at least {_FEWEST} needed'
        )
    return train, validation, test


def start(learning: Comparing, key: jax.Array) -> dict[str, jax.Array]:
    """Gaussian weights, so that outputs (before the mean over positions) have a second moment of one in every model."""
    shapes: dict[str, tuple[int, ...]]
    if learning.model.startswith('conv'):
        shapes = {f'conv_{i}': (3, 3, a, b) for i, (a, b) in enumerate(zip((2, *_MAPS), _MAPS))}
    else:
        shapes = {'hidden': (learning.inputs, 2 * learning.inputs), 'out': (2 * learning.inputs, 1)}
    # relu: E s(u)^2 = 1 for u of variance 2 (He et al. 2015); quadratic: 3 for u of variance 1
    gains = (1.0, math.sqrt(1 / 3)) if 'quadratic' in learning.model else (math.sqrt(2), 1.0)
    return {
        name: gain / math.sqrt(math.prod(shape[:-1])) * jax.random.normal(jax.random.fold_in(key, i), shape)
        for i, (gain, (name, shape)) in enumerate(zip(gains, shapes.items()))
    }


def output(learning: Comparing, weights: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """f [n] of examples [n, side, side, 2]; its sign is the answer."""
    activation = jnp.square if 'quadratic' in learning.model else jax.nn.relu
    if learning.model.startswith('conv'):
        seen = patches(pad(x, (3, 3), (1, 1), 'SAME'), (3, 3))
        maps = seen.reshape(-1, seen.shape[-1]) @ weights['conv_0'].reshape(seen.shape[-1], -1)
        return _mean_of_convolution(activation(maps).reshape(*seen.shape[:3], -1), weights['conv_1'])
    return (activation(x.reshape(len(x), -1) @ weights['hidden']) @ weights['out'])[:, 0]


def _mean_of_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The mean [n] over all positions of a convolution of x [n, side, side, C] to one map, padded with zeros.

    Each pixel counts with the sum of the taps under which it comes, so there is nothing to convolve.
    """
    side = x.shape[1]
    position = np.arange(side)[:, None] + 1 - np.arange(3)  # [pixel, tap]: the position whose tap sees the pixel
    reached = (position >= 0) & (position < side)
    weights = jnp.einsum('ia,jb,abc->ijc', *(jnp.asarray(reached, x.dtype),) * 2, kernel[..., 0])
    return x.reshape(len(x), -1) @ weights.reshape(-1) / side**2


def _trained(
    learning: Comparing, train: norms.Compared, test: norms.Compared, seed: ArrayLike, n: ArrayLike, rates: jax.Array
) -> jax.Array:
    """The accuracy [S] on `test` after training on the first n of `train`."""
    first, order = (jax.random.fold_in(jax.random.key(seed), purpose) for purpose in (2, 3))

    def loss(weights: dict[str, jax.Array], nothing: jax.Array, done: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.mean(jax.nn.softplus(-train.y[batch] * output(learning, weights, train.x[batch])))

    optimizer = OPTIMIZERS[learning.model.rpartition('_')[2]]
    weights = learners.descended(loss, start(learning, first), rates, jnp.zeros_like(rates), optimizer, order, n)
    return jax.lax.map(lambda own: jnp.mean(test.y * output(learning, own, jnp.asarray(test.x)) > 0), weights)


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
