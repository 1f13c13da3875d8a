"""Small trainings by the hundred: what learners of the generated tasks have in common, and the gradient descent they all go through."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

STEPS, PASSES = 4000, 16  # of a training, at least: with fewer passes over many examples, steps would be what is missing
BATCH, TEST = 64, 4000  # examples of a step, and fresh examples that a training is scored on

Settings = tuple[tuple[float, ...], ...]


class Learner(Protocol):
    """A task of some size and a model that learns it: a frozen dataclass, whose fields say everything."""

    @property
    def task(self) -> str:
        """What is learned: the name of a data set."""
        ...

    @property
    def model(self) -> str:
        """What learns, unique in its task."""
        ...

    @property
    def size(self) -> tuple[int, ...]:
        """How large the task is."""
        ...

    @property
    def settings(self) -> Settings:
        """The hyper-parameters that are tried, as tuples of numbers; as many for every model of a task."""
        ...

    @property
    def effort(self) -> int:
        """How long a training takes beside others, roughly."""
        ...

    def available(self, source: Any) -> int:
        """The most examples that there are."""
        ...

    def evaluated(self, n: int, seed: int, source: Any, tuning: bool) -> np.ndarray:
        """The accuracies [S] of trainings on the same n examples, in all settings; the seed draws everything anew.

        tuning: whether they are to choose a setting by, and must not see what others are scored on.
        """
        ...


def descended(
    loss: Callable[..., jax.Array],
    start: Any,
    rates: jax.Array,
    others: Any,
    optimizer: optax.GradientTransformation,
    order: jax.Array,
    n: ArrayLike,
) -> Any:
    """Parameters [S, ...] after training from the same start, on the same batches, at rates [S] that fall to zero along a cosine.

    There are `STEPS` steps, or as many as make `PASSES` over n examples.

    loss: of (parameters, what `others` [S, ...] says of a setting, share of the steps done, the batch's indices, each below n). optimizer:
    turns a gradient into a direction; the step is its negative times the rate. order: the key that batches are drawn with.
    """

    steps = jnp.maximum(STEPS, PASSES * jnp.asarray(n) // BATCH)

    def step(i: jax.Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        batch, done = jax.random.randint(jax.random.fold_in(order, i), (BATCH,), 0, n), i / steps
        falling = 0.5 * (1 + jnp.cos(jnp.pi * done))

        def one(params: Any, state: Any, rate: jax.Array, other: Any) -> tuple[Any, Any]:
            directions, state = optimizer.update(jax.grad(loss)(params, other, done, batch), state, params)
            return jax.tree.map(lambda p, d: p - rate * falling * d, params, directions), state

        return jax.vmap(one)(*carry, rates, others)

    params = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(rates), *leaf.shape)), start)
    return jax.lax.fori_loop(0, steps, step, (params, jax.vmap(optimizer.init)(params)))[0]


def pool_for(n: int) -> int:
    """The power of two that holds n examples: few programs serve every n."""
    return 1 << max(n - 1, 1).bit_length()
