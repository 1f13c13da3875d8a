"""One hidden layer on signals, dense, local or shared, trained by plain stochastic gradient descent: the learners that theory speaks of.

    dense    f(x) = sum_j phi(sum_pi W[j, p, i] x[p, i])     a unit per patch, each of which sees all patches
    local    f(x) = sum_p phi(sum_i W[p, i] x[p, i])         a filter per patch
    shared   f(x) = sum_p phi(sum_i w[i] x[p, i])            one filter for all patches

with phi(u) = relu(u - b) - relu(-u - b), which is silent about what is smaller than the threshold b (Lahoti et al. 2024, section 3). No
adaptive optimizer: the lower bounds are for algorithms that treat all directions alike, such as gradient descent from a Gaussian start.

In training the threshold rises from zero over the first half of the steps. With all of it from the start, a filter that begins the wrong
way round shrinks until it is silent about everything, and has no gradient any more: one in ten shared filters, whatever n is.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from cnn_research import learners, needed
from cnn_research.data import signals

TASKS: dict[str, Callable[..., signals.Signals]] = {'dynamic_signal': signals.dynamic_signal, 'static_signal': signals.static_signal}
MODELS = ('shared', 'local', 'dense')
SETTINGS = tuple(itertools.product((1.0, 4.0, 8.0), (0.3, 1.0, 3.0, 10.0)))  # thresholds and rates that are tried at every n
_START = 3.0  # norm of a filter at the start: the threshold is tried at several shares of it
_PURPOSES = 5  # of a seed: the direction, the examples, fresh ones, the start, the batches


@dataclasses.dataclass(frozen=True)
class Learning:
    """A task, its patches, their dimension and the deviation of its noise, and the layer that learns it: a `learners.Learner`."""

    task: str
    model: str
    patches: int
    dimension: int
    sigma: float

    @property
    def size(self) -> tuple[int, int]:
        """Patches and dimension."""
        return self.patches, self.dimension

    @property
    def settings(self) -> learners.Settings:
        """Thresholds and rates."""
        return SETTINGS

    @property
    def effort(self) -> int:
        """Of the layer's products, and of what every step costs."""
        return {'shared': 1, 'local': 2, 'dense': 2 + self.patches}[self.model] * (100 + self.patches * self.dimension)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weights."""
        return {
            'dense': (self.patches, self.patches, self.dimension),
            'local': (self.patches, self.dimension),
            'shared': (self.dimension,),
        }[self.model]

    @property
    def fan_in(self) -> int:
        """How many numbers a unit sees."""
        return self.patches * self.dimension if self.model == 'dense' else self.dimension

    def available(self, source: Any) -> int:
        """As many as anyone may ask for: they are drawn."""
        return needed.MOST

    def evaluated(self, n: int, seed: int, source: Any = None, tuning: bool = False) -> np.ndarray:
        """`accuracies` [S] in all settings; every seed has fresh examples, so tuning is nothing special."""
        thresholds, rates = np.array(self.settings, np.float32).T
        return np.asarray(accuracies(self, learners.pool_for(n), np.uint32(seed), np.int32(n), rates, thresholds))


def phi(u: jax.Array, threshold: ArrayLike) -> jax.Array:
    """The soft threshold: u, moved towards zero by the threshold, and zero up to it."""
    return jax.nn.relu(u - threshold) - jax.nn.relu(-u - threshold)


def output(learning: Learning, weights: jax.Array, x: jax.Array, threshold: ArrayLike) -> jax.Array:
    """f [n] of examples [n, patches, dimension]; its sign is the answer."""
    # Products, no sums of products: XLA for CPUs (jax 0.10.2) computes a sum within a sum wrongly for a stack of thresholds.
    if learning.model == 'dense':
        units = x.reshape(len(x), -1) @ weights.reshape(len(weights), -1).T
    else:
        units = jnp.einsum('npi,pi->np', x, weights) if learning.model == 'local' else x @ weights
    return jnp.sum(phi(units, threshold), axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def accuracies(learning: Learning, pool: int, seed: ArrayLike, n: ArrayLike, rates: jax.Array, thresholds: jax.Array) -> jax.Array:
    """The accuracy [S] on fresh examples of trainings on the same n examples, the first of `pool`, at rates and thresholds [S].

    The seed draws the task's direction, the examples, the start and the batches, all anew, and the same for all S. The logistic loss is
    followed downhill. A learner that is silent about an example is wrong about it. All numbers of examples share a program, up to the pool.
    """
    direction, drawn, tested, start, order = (jax.random.fold_in(jax.random.key(seed), purpose) for purpose in range(_PURPOSES))
    w = signals.direction(direction, learning.dimension)
    draw = functools.partial(TASKS[learning.task], w=w, patches=learning.patches, sigma=learning.sigma)
    examples, fresh = draw(drawn, n=pool), draw(tested, n=learners.TEST)
    weights = _START / np.sqrt(learning.fan_in) * jax.random.normal(start, learning.shape)

    def loss(weights: jax.Array, threshold: jax.Array, done: jax.Array, batch: jax.Array) -> jax.Array:
        threshold = jnp.minimum(2 * done, 1) * threshold
        return jnp.mean(jax.nn.softplus(-examples.y[batch] * output(learning, weights, examples.x[batch], threshold)))

    weights = learners.descended(loss, weights, rates, thresholds, optax.identity(), order, n)
    answers = jax.vmap(lambda w, b: output(learning, w, fresh.x, b))(weights, thresholds)
    return jnp.mean(fresh.y * answers > 0, axis=1)
