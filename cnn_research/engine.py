"""Training as pure functions: state, step, a chunk of steps as one program, exact evaluation; compiled by `programs` and `together`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from cnn_research import cost, images, models, sharing
from cnn_research.problem import Array, Arrays, Examples, Program, Setting

# What a seed is folded with before use, so that initial weights, data order, positions and the rest are independent draws.
INIT, ORDER, PLACE, EMBED, SHIFT, FLIP = range(6)
OWN = ('draw', 'scale')  # what every seed has of its own in `Arrays`
# The axis of seeds in the arguments of `chunk` after the program, for several seeds in one call.
CHUNK_AXES: Any = (None, 0, 0, Arrays(*(0 if name in OWN else None for name in Arrays._fields)), 0, 0, None, None)  # type: ignore[arg-type]


class State(flax.struct.PyTreeNode):
    """All that changes in training: steps done, parameters, batch statistics (empty without batch norm), optimizer state.

    `diverged` is the number of the first step (from 1) that was given up because its loss was not finite; 0: none was. Parameters and
    batch statistics are then what they were before that step, and stay so.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    diverged: jax.Array


class Metrics(NamedTuple):
    """Sums over examples, to be divided once: loss (nats), correct predictions, number of examples."""

    loss: Array
    correct: Array
    number: Array

    def __add__(self, other: 'Metrics') -> 'Metrics':  # type: ignore[override]
        return Metrics(*(a + b for a, b in zip(self, other)))

    def means(self) -> dict[str, float]:
        """Mean loss and accuracy."""
        return {'loss': float(self.loss) / int(self.number), 'accuracy': int(self.correct) / int(self.number)}


NOTHING = Metrics(np.zeros((), np.float32), np.zeros((), np.int32), np.zeros((), np.int32))


class Programs(NamedTuple):
    """The compiled functions of a program."""

    init: Callable[..., State]
    order: Callable[..., jax.Array]
    chunk: Callable[..., tuple[State, Metrics]]
    evaluate: Callable[..., Metrics]
    logits: Callable[..., jax.Array]


def once() -> dict[str, int] | None:
    """For programs that run once in a while: on a CPU, machine code that is made in a third of the time.

    (Not a constant: to ask for the backend is to start it, and processes that train together must have joined before.)
    """
    return {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None


@functools.cache
def programs(program: Program) -> Programs:
    """Compile-once functions: seeds, epochs, training set sizes, learning rates and their schedules are arguments, and compile nothing."""
    bind = functools.partial
    return Programs(
        init=jax.jit(bind(init, program), compiler_options=once()),
        order=jax.jit(bind(epoch_order, program), compiler_options=once()),
        chunk=jax.jit(bind(chunk, program), donate_argnums=(1,)),
        evaluate=jax.jit(bind(evaluate, program)),
        logits=jax.jit(bind(logits, program)),
    )


@functools.cache
def together(program: Program) -> Programs:
    """`programs` for several seeds in one: seeds [S], states, orders and metrics have them as their first axis.

    So have `OWN` of the arrays; all else is common. `evaluate` and `logits` are those of one seed.
    """
    init_, order, steps = (functools.partial(function, program) for function in (init, epoch_order, chunk))
    return programs(program)._replace(
        init=jax.jit(jax.vmap(init_), compiler_options=once()),
        order=jax.jit(jax.vmap(order, (None, 0, None)), compiler_options=once()),
        chunk=jax.jit(jax.vmap(steps, CHUNK_AXES), donate_argnums=(1,)),
    )


def learning_rate(schedule: str, setting: Setting, step: Array) -> jax.Array:
    """The rate of step number `step` (from 0): a linear warm-up, then a cosine decay to zero or a constant.

    The first step is taken at 1 / warmup_steps of the rate, not at zero, where it would do nothing. (The schedules of Optax take Python
    numbers, so that each would be another program.)
    """
    share = jnp.ones(())
    if schedule == 'cosine':
        share = 0.5 * (1 + jnp.cos(jnp.pi * (step - setting.warmup_steps) / (setting.total_steps - setting.warmup_steps)))
    rising = (step + 1) / jnp.maximum(setting.warmup_steps, 1)
    return setting.learning_rate * jnp.where(step < setting.warmup_steps, rising, share)


def optimizer(program: Program, rate: ArrayLike, weight_decay: ArrayLike) -> optax.GradientTransformation:
    """The Optax optimizer for one step at this rate; its state does not depend on either number."""
    decay = [optax.add_decayed_weights(weight_decay)] if program.decays else []
    descends = optax.scale_by_learning_rate(rate)
    if program.optimizer == 'adadelta':  # Zeiler 2012; its weight decay is a part of the gradient
        return optax.chain(*decay, optax.scale_by_adadelta(rho=0.9, eps=1e-6), descends)
    moves = optax.scale_by_adam() if program.optimizer == 'adam' else optax.trace(decay=0.9, nesterov=True)
    return optax.chain(moves, *decay, descends)


def _optimizer(program: Program, rate: ArrayLike, weight_decay: ArrayLike) -> optax.GradientTransformation:
    """`optimizer`, which skips updates that are not finite where the program says so."""
    own = optimizer(program, rate, weight_decay)
    return optax.apply_if_finite(own, program.skip_nonfinite) if program.skip_nonfinite else own


def fresh(program: Program, params: Any) -> Any:
    """The state of an optimizer that has done nothing."""
    return _optimizer(program, 0.0, 0.0).init(params)


def _model(program: Program) -> models.Network:
    return models.Network(program.model, program.num_classes)


def key(seed: jax.Array, purpose: int) -> jax.Array:
    """The random key of a seed for one purpose."""
    return jax.random.fold_in(jax.random.key(seed), purpose)


def at_step(seed: jax.Array, purpose: int, number: Array) -> jax.Array:
    """The random key of a seed for one purpose at one step (or in one epoch)."""
    return jax.random.fold_in(key(seed, purpose), number)


def init(program: Program, seed: jax.Array) -> State:
    """The state before the first step."""
    variables = _model(program).init(key(seed, INIT), jnp.zeros((1, *program.image)))
    params = variables['params']
    nothing = jnp.zeros((), jnp.int32)
    return State(nothing, params, variables.get('batch_stats', {}), fresh(program, params), nothing)


def epoch_order(program: Program, setting: Setting, seed: jax.Array, epoch: jax.Array) -> jax.Array:
    """The order of the training images in the passes of an epoch: a pure function of (seed, epoch, train_size).

    int32 [passes * ordered], for every pass a permutation of 0 ... train_size - 1, and then the rest, which is not used: those of all
    numbers that are smaller than train_size, in the order in which they come.
    """

    def of_pass(number: jax.Array) -> jax.Array:
        order = jax.random.permutation(at_step(seed, ORDER, number), program.ordered)
        return order[jnp.argsort(order >= setting.train_size, stable=True)]

    return jax.vmap(of_pass)(epoch * program.passes + jnp.arange(program.passes)).reshape(-1)


def placed(program: Program, raw: Array, corners: Array | None) -> Array:
    """Images [N, h, w, C] on the canvas, [N, H, W, C], where there is one."""
    return raw if corners is None else images.place(raw, corners, program.image[:2])


def pixels(scale: Array, raw: Array) -> jax.Array:
    """What the network sees of uint8 images [N, H, W, C]: scaled float32."""
    return jnp.asarray(raw, jnp.float32) * scale


def drawn(program: Program, data: Arrays, raw: jax.Array, seed: jax.Array, step: jax.Array) -> jax.Array:
    """The training images [B, H, W, C], uint8, that the raw ones [B, h, w, C] make in this step.

    Half of them are mirrored if `flip`, each is put at one of the positions, and moved by up to `shift` pixels along both axes. A pure
    function of (seed, step): every image draws its own place and move, uniform over all of them.
    """
    number, corners = len(raw), None
    if program.flip:
        raw = images.mirror(raw, jax.random.bernoulli(at_step(seed, FLIP, step), shape=(number,)))
    if data.positions is not None:
        corners = data.positions[jax.random.randint(at_step(seed, PLACE, step), (number,), 0, len(data.positions))]
    raw = jnp.asarray(placed(program, raw, corners))
    if program.shift:
        by = jax.random.randint(at_step(seed, SHIFT, step), (number, 2), -program.shift, program.shift + 1)
        raw = images.shift(raw, by, program.shift)
    return raw


def measure(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
    """Cross-entropy and hits of logits [N, K] against labels [N], each example counted `weights` [N] (0 or 1) times."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1) == labels) & (weights > 0)
    # where, not a product: a padded row's loss may be anything
    return Metrics(jnp.sum(jnp.where(weights > 0, losses, 0)), jnp.sum(hits, dtype=jnp.int32), jnp.sum(weights, dtype=jnp.int32))


def step(program: Program, setting: Setting, state: State, x: jax.Array, labels: jax.Array) -> tuple[State, Metrics]:
    """One update on a batch of network inputs [B, H, W, C] and labels [B], unless it is given up or skipped."""

    def loss(params):
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, new = _model(program).apply(variables, x, train=True, mutable=['batch_stats'])
        metrics = measure(logits, labels, jnp.ones_like(labels))
        return metrics.loss / labels.shape[0], (metrics, new.get('batch_stats', state.batch_stats))

    grads, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    rate = learning_rate(program.schedule, setting, state.step)
    updates, opt_state = _optimizer(program, rate, setting.weight_decay).update(grads, state.opt_state, state.params)
    params = tie(program, optax.apply_updates(state.params, updates), state.step + 1)
    return _unless_diverged(program, state, State(state.step + 1, params, batch_stats, opt_state, state.diverged), metrics)


def _unless_diverged(program: Program, before: State, after: State, metrics: Metrics) -> tuple[State, Metrics]:
    """The state after a step, with the parameters and batch statistics before it if its loss is not finite.

    (A look at all updates would read them once more, and to keep the state of the optimizer takes a dense step 1.3 times as long; what an
    update breaks shows in the next loss.) Where so many updates in a row are to be skipped, it is the one after them that is given up;
    what is skipped counts nowhere.
    """
    finite = counts = jnp.isfinite(metrics.loss)
    goes_on = finite & (before.diverged == 0)
    stays = goes_on
    if program.skip_nonfinite:
        skipped = after.opt_state.notfinite_count
        goes_on = (skipped <= program.skip_nonfinite) & (before.diverged == 0)
        stays, counts = goes_on & finite, finite | ~goes_on
    kept = after.replace(
        params=jax.tree.map(lambda a, b: jnp.where(goes_on, a, b), after.params, before.params),
        batch_stats=jax.tree.map(lambda a, b: jnp.where(stays, a, b), after.batch_stats, before.batch_stats),
        diverged=jnp.where(goes_on | (before.diverged > 0), before.diverged, after.step),
    )
    metrics = jax.tree.map(lambda each: jnp.where(counts, each, 0), metrics) if program.skip_nonfinite else metrics
    return kept, metrics._replace(loss=jnp.where(goes_on, metrics.loss, jnp.nan))


def tie(program: Program, params: Any, step: jax.Array) -> Any:
    """What the stages' schemes make of the parameters after step number `step` (from 1): sharing in time happens here."""
    tied = {}
    for placed in cost.stages(program.model, program.image):
        tied[placed.name] = sharing.after_step(placed.scheme, placed.geometry, params[placed.name], step)
    return {**params, **tied}


def chunk(
    program: Program,
    setting: Setting,
    state: State,
    total: Metrics,
    data: Arrays,
    seed: jax.Array,
    order: jax.Array,
    first: jax.Array,
    count: jax.Array,
    spread: Callable[[jax.Array], jax.Array] = lambda chosen: chosen,
) -> tuple[State, Metrics]:
    """`count` steps of an epoch from its step `first` on, added to the sums so far. Any chunking gives the same bits, sums included.

    The images are those of `order` in the pool, or, where that holds batches [K, B, ...], the first `count` of those. spread: puts the
    numbers [B] of a batch's images where its parts are to be computed.
    """
    size, streamed = program.batch_size, data.pool.images.ndim > 4

    def body(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, total = carry
        if streamed:
            raw, labels = (jax.lax.dynamic_index_in_dim(each, i, keepdims=False) for each in (data.pool.images, data.pool.labels))
        else:
            passed, batch = jnp.divmod(first + i, setting.train_size // size)
            chosen = spread(data.draw[jax.lax.dynamic_slice_in_dim(order, passed * program.ordered + batch * size, size)])
            raw, labels = data.pool.images[chosen], data.pool.labels[chosen]
        x = pixels(data.scale, drawn(program, data, raw, seed, state.step))
        state, metrics = step(program, setting, state, x, labels)
        return state, total + metrics

    return jax.lax.fori_loop(0, count, body, (state, total))


def evaluate(program: Program, params: Any, batch_stats: Any, scale: Array, examples: Examples, weights: Array) -> Metrics:
    """Metrics over one batch of examples, each counted `weights` [N] (0 or 1) times."""
    read = logits(program, params, batch_stats, scale, placed(program, examples.images, examples.corners))
    return measure(read, jnp.asarray(examples.labels), jnp.asarray(weights))


def logits(program: Program, params: Any, batch_stats: Any, scale: Array, raw: Array) -> jax.Array:
    """Logits [N, K] of uint8 images [N, H, W, C]."""
    return cast(jax.Array, _model(program).apply({'params': params, 'batch_stats': batch_stats}, pixels(scale, raw)))
