"""Training as pure functions: state, step, a chunk of steps as one program, exact evaluation, fit. `jit` is in `programs` alone."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn_research import config, cost, embedding, models, ops, sharing
from cnn_research.problem import Array, Arrays, Examples, Problem

_CHUNK_SECONDS = 1.0  # how long one compiled call should last: progress stays live, dispatch costs nothing
_EVALUATION_BATCH = 256
# For programs that run once in a while: on a CPU, machine code that is made in a third of the time.
_ONCE = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else None
# What a seed is folded with before use, so that initial weights, data order and positions are independent draws.
_INIT, _ORDER, _PLACE, _EMBED = range(4)


class State(flax.struct.PyTreeNode):
    """All that changes in training: steps done, parameters, batch statistics (empty without batch norm), optimizer state."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any


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


class Programs(NamedTuple):
    """The compiled functions of one problem."""

    init: Callable[..., State]
    order: Callable[..., jax.Array]
    chunk: Callable[..., tuple[State, Metrics]]
    evaluate: Callable[..., Metrics]


class Fit(NamedTuple):
    """A finished training: its problem (another than at the start if relaxed), final state, one dict per epoch, whether it diverged."""

    problem: Problem
    state: State
    history: list[dict[str, Any]]
    diverged: bool


@functools.cache
def programs(problem: Problem) -> Programs:
    """Compile-once functions of a problem: seeds and epochs are arguments, so they share the compiled code."""
    bind = functools.partial
    return Programs(
        init=jax.jit(bind(init, problem), compiler_options=_ONCE),
        order=jax.jit(bind(epoch_order, problem), compiler_options=_ONCE),
        chunk=jax.jit(bind(chunk, problem), donate_argnums=(0,)),
        evaluate=jax.jit(bind(evaluate, problem)),
    )


def optimizer(c: config.TrainConfig, total_steps: int, first_step: int = 0) -> optax.GradientTransformation:
    """The Optax optimizer with its schedule: linear warm-up, then cosine decay to zero, or constant; begun at step `first_step` of it."""
    warmup = min(round(c.warmup * total_steps), total_steps - 1)
    rate: optax.Schedule = optax.constant_schedule(c.learning_rate)
    if c.schedule == 'cosine':
        rate = optax.cosine_decay_schedule(c.learning_rate, total_steps - warmup)
    if warmup:
        # The first step is taken at 1 / warmup of the rate, not at zero, where it would do nothing.
        rising = optax.linear_schedule(c.learning_rate / warmup, c.learning_rate, max(1, warmup - 1))
        rate = optax.join_schedules([rising, rate], [warmup])
    moves = optax.scale_by_adam() if c.optimizer == 'adam' else optax.trace(decay=0.9, nesterov=True)
    decay = [optax.add_decayed_weights(c.weight_decay)] if c.weight_decay else []
    return optax.chain(moves, *decay, optax.scale_by_learning_rate(lambda count: rate(count + first_step)))


def _optimizer(problem: Problem) -> optax.GradientTransformation:
    return optimizer(problem.config.train, problem.config.train.epochs * problem.steps_per_epoch, problem.first_step)


def _model(problem: Problem) -> models.Network:
    return models.Network(problem.config.model, problem.num_classes)


def _logits(problem: Problem, variables: Any, x: jax.Array) -> jax.Array:
    return cast(jax.Array, _model(problem).apply(variables, x))


def _key(seed: jax.Array, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), purpose)


def init(problem: Problem, seed: jax.Array) -> State:
    """The state before the first step."""
    variables = _model(problem).init(_key(seed, _INIT), jnp.zeros((1, *problem.image)))
    params = variables['params']
    return State(jnp.zeros((), jnp.int32), params, variables.get('batch_stats', {}), _optimizer(problem).init(params))


def epoch_order(problem: Problem, seed: jax.Array, epoch: jax.Array) -> jax.Array:
    """The order of the training images in an epoch, int32 [train_size]: a pure function of (seed, epoch)."""
    return jax.random.permutation(jax.random.fold_in(_key(seed, _ORDER), epoch), problem.train_size)


def pixels(problem: Problem, scale: Array, images: Array, corners: Array | None) -> jax.Array:
    """What the network sees: uint8 images [N, h, w, C], placed on the canvas where there is one, as scaled float32 [N, H, W, C]."""
    if corners is not None:
        images = ops.place(images, corners, problem.image[:2])
    return jnp.asarray(images, jnp.float32) * scale


def measure(logits: jax.Array, labels: jax.Array, weights: jax.Array) -> Metrics:
    """Cross-entropy and hits of logits [N, K] against labels [N], each example counted `weights` [N] (0 or 1) times."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = (jnp.argmax(logits, axis=-1) == labels) & (weights > 0)
    # where, not a product: a padded row's loss may be anything
    return Metrics(jnp.sum(jnp.where(weights > 0, losses, 0)), jnp.sum(hits, dtype=jnp.int32), jnp.sum(weights, dtype=jnp.int32))


def step(problem: Problem, state: State, images: jax.Array, labels: jax.Array) -> tuple[State, Metrics]:
    """One update on a batch of network inputs [B, H, W, C] and labels [B]."""

    def loss(params):
        variables = {'params': params, 'batch_stats': state.batch_stats}
        logits, new = _model(problem).apply(variables, images, train=True, mutable=['batch_stats'])
        metrics = measure(logits, labels, jnp.ones_like(labels))
        return metrics.loss / labels.shape[0], (metrics, new.get('batch_stats', state.batch_stats))

    grads, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = _optimizer(problem).update(grads, state.opt_state, state.params)
    params = tie(problem, optax.apply_updates(state.params, updates), state.step + 1)
    return State(state.step + 1, params, batch_stats, opt_state), metrics


def tie(problem: Problem, params: Any, step: jax.Array) -> Any:
    """What the stages' schemes make of the parameters after step number `step` (from 1): sharing in time happens here."""
    tied = {}
    for placed in cost.stages(problem.config.model, problem.image):
        tied[placed.name] = sharing.after_step(placed.scheme, placed.geometry, params[placed.name], step)
    return {**params, **tied}


def chunk(
    problem: Problem, state: State, data: Arrays, seed: jax.Array, order: jax.Array, first: jax.Array, count: jax.Array
) -> tuple[State, Metrics]:
    """`count` steps of an epoch from its step `first` on. Steps depend on nothing but the state, so any chunking gives the same bits."""
    size = problem.batch_size

    def body(i: jax.Array, carry: tuple[State, Metrics]) -> tuple[State, Metrics]:
        state, total = carry
        chosen = jax.lax.dynamic_slice_in_dim(order, (first + i) * size, size)
        corners = None
        if data.positions is not None:
            key = jax.random.fold_in(_key(seed, _PLACE), state.step)
            corners = data.positions[jax.random.randint(key, (size,), 0, len(data.positions))]
        state, metrics = step(problem, state, pixels(problem, data.scale, data.train.images[chosen], corners), data.train.labels[chosen])
        return state, total + metrics

    nothing = Metrics(jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
    return jax.lax.fori_loop(0, count, body, (state, nothing))


def evaluate(problem: Problem, params: Any, batch_stats: Any, scale: Array, examples: Examples, weights: Array) -> Metrics:
    """Metrics over one batch of examples, each counted `weights` [N] (0 or 1) times."""
    variables = {'params': params, 'batch_stats': batch_stats}
    logits = _logits(problem, variables, pixels(problem, scale, examples.images, examples.corners))
    return measure(logits, jnp.asarray(examples.labels), jnp.asarray(weights))


def _nothing() -> Metrics:
    return Metrics(np.zeros((), np.float64), np.zeros((), np.int64), np.zeros((), np.int64))


def score(problem: Problem, state: State, scale: Array, examples: Examples) -> dict[str, float]:
    """Mean loss and accuracy of a state on examples, each counted exactly once: what fills up the last batch is masked.

    All splits go through one compiled program, a batch at a time; the sums are kept in float64.
    """
    number, size = len(examples.labels), _EVALUATION_BATCH
    total = _nothing()
    for first in range(0, number, size):
        # Rows past the end repeat the last one: any row will do, for it weighs nothing.
        rows = np.minimum(np.arange(first, first + size), number - 1)
        batch = jax.tree.map(lambda a, rows=rows: a[rows], examples)
        weights = (np.arange(first, first + size) < number).astype(np.int32)
        total += jax.device_get(programs(problem).evaluate(state.params, state.batch_stats, scale, batch, weights))
    return total.means()


def relax(problem: Problem, state: State, seed: int) -> tuple[Problem, State]:
    """The same network with the sharing that `relax_to` names, free to leave it: same outputs, a new optimizer, the schedule goes on."""
    c = problem.config
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    key = _key(jnp.uint32(seed), _EMBED)
    model, embedded = embedding.embed_model(c.model, variables, problem.image, c.train.relax_to, key)
    freed = dataclasses.replace(c, model=model, train=dataclasses.replace(c.train, relax_epoch=None))
    problem = dataclasses.replace(problem, config=freed, first_step=int(state.step))
    return problem, State(state.step, embedded['params'], state.batch_stats, _optimizer(problem).init(embedded['params']))


def fit(
    problem: Problem,
    data: Arrays,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Callable[[Problem, State], dict[str, float]] = lambda problem, state: {},
) -> Fit:
    """Train from scratch. `on_progress` hears the share done, in [0, 1], about once a second. Ends early when the loss is not finite.

    `watch` is called after every epoch; what it returns is added to the epoch's entry in the history.
    """
    p, epochs = programs(problem), problem.config.train.epochs
    assert data.validation is not None
    resident = data._replace(train=jax.tree.map(jnp.asarray, data.train), validation=None, test=None, unseen=None)
    seed_ = np.uint32(seed)
    state, history = p.init(seed_), []
    pace = _Pace()
    for epoch in range(epochs):
        started = time.perf_counter()
        if epoch == problem.config.train.relax_epoch:
            problem, state = relax(problem, state, seed)
            p, pace = programs(problem), _Pace()
        order, done = p.order(seed_, np.int32(epoch)), 0
        total = _nothing()
        while done < problem.steps_per_epoch and math.isfinite(total.loss):
            count = pace.next(problem.steps_per_epoch - done)
            state, metrics = p.chunk(state, resident, seed_, order, np.int32(done), np.int32(count))
            total += jax.device_get(metrics)
            done += count
            pace.finished(count)
            on_progress((epoch + done / problem.steps_per_epoch) / epochs)
        finite = math.isfinite(total.loss)
        entry = {'epoch': epoch + 1, **_named('train', total.means() if finite else None)}
        entry |= _named('validation', score(problem, state, data.scale, data.validation) if finite else None)
        entry |= watch(problem, state) if finite else {}
        history.append(entry | {'seconds': time.perf_counter() - started})
        if not finite:
            break
    last = history[-1]['validation_loss']
    return Fit(problem, state, history, last is None or not math.isfinite(last))


def _named(split: str, means: dict[str, float] | None) -> dict[str, float | None]:
    return {f'{split}_{name}': means[name] if means else None for name in ('loss', 'accuracy')}


class _Pace:
    """How many steps the next compiled call should hold: about a second's worth, as measured so far."""

    def __init__(self):
        self.per_step = math.inf
        self.warm = False
        self.started = 0.0

    def next(self, left: int) -> int:
        self.started = time.perf_counter()
        # The first call compiles, so its time says nothing; a few steps are enough for it.
        return max(1, min(left, int(_CHUNK_SECONDS / self.per_step) if self.per_step < math.inf else 4))

    def finished(self, count: int) -> None:
        if self.warm:
            self.per_step = (time.perf_counter() - self.started) / count
        self.warm = True
