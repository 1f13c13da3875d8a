"""The training loop: fit, for one seed or for several in one program; relaxation on the way; scores that count every example once."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn_research import cost, embedding, engine
from cnn_research.engine import Metrics, State
from cnn_research.problem import Array, Arrays, Examples, Problem

_CHUNK_SECONDS = 1.0  # how long one compiled call should last: progress stays live, dispatch costs nothing
_EVALUATION_BATCH = 256
_MEMORY_SHARE = 0.8  # of the device, for seeds that train together; scores and the allocator need some too

Watch = Callable[[Problem, State, Arrays], dict[str, float]]


class Fit(NamedTuple):
    """A finished training: its problem (another than at the start if relaxed), final state, one dict per epoch, whether it diverged."""

    problem: Problem
    state: State
    history: list[dict[str, Any]]
    diverged: bool


def score(problem: Problem, state: State, scale: Array, examples: Examples) -> dict[str, float]:
    """Mean loss and accuracy of a state on examples, each counted exactly once: what fills up the last batch is masked.

    All splits go through one compiled program, a batch at a time; the sums are kept in float64.
    """
    number, size = len(examples.labels), _EVALUATION_BATCH
    total = Metrics(np.zeros(()), np.zeros((), np.int64), np.zeros((), np.int64))
    for first in range(0, number, size):
        # Rows past the end repeat the last one: any row will do, for it weighs nothing.
        rows = np.minimum(np.arange(first, first + size), number - 1)
        batch = jax.tree.map(lambda a, rows=rows: a[rows], examples)
        weights = (np.arange(first, first + size) < number).astype(np.int32)
        total += jax.device_get(engine.programs(problem.program).evaluate(state.params, state.batch_stats, scale, batch, weights))
    return total.means()


def relax(problem: Problem, state: State, seed: int) -> tuple[Problem, State]:
    """The same network with the sharing that `relax_to` names, free to leave it: same outputs, a new optimizer, the schedule goes on."""
    c = problem.config
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    key = engine.key(jnp.uint32(seed), engine.EMBED)
    model, embedded = embedding.embed_model(c.model, variables, problem.image, c.train.relax_to, key)
    freed = dataclasses.replace(c, model=model, train=dataclasses.replace(c.train, relax_epoch=None))
    problem = dataclasses.replace(problem, config=freed)
    return problem, State(state.step, embedded['params'], state.batch_stats, engine.fresh(problem.program, embedded['params']))


def fit(
    problem: Problem,
    data: Arrays,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
) -> Fit:
    """Train from scratch. `on_progress` hears the share done, in [0, 1], about once a second. Ends early when the loss is not finite.

    `watch` is called after every epoch; what it returns is added to the epoch's entry in the history.
    """
    return fit_together(problem, [data], [seed], on_progress, watch)[0]


def fit_together(
    problem: Problem,
    data: Sequence[Arrays],
    seeds: Sequence[int],
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
) -> list[Fit]:
    """`fit` for several seeds in one program, each on its own arrays of the problem: what every one would be alone, but for rounding.

    `seconds` of the history are a seed's share of the time.

    Raises:
      ValueError: several seeds with patience, which would end at different epochs.
    """
    patience = problem.config.train.patience
    if patience is not None and len(seeds) > 1:
        raise ValueError('seeds with patience are trained one by one')
    compiled = engine.together if len(seeds) > 1 else engine.programs
    p, setting, epochs = compiled(problem.program), problem.setting, problem.config.train.epochs
    resident, seeds_ = _resident(data), _stack([np.uint32(seed) for seed in seeds])
    state, histories, pace = p.init(seeds_), [[] for _ in seeds], _Pace()  # type: ignore[var-annotated]
    best = None
    for epoch in range(epochs):
        started = time.perf_counter()
        if epoch == problem.config.train.relax_epoch:
            freed = [relax(problem, one, seed) for one, seed in zip(_apart(state, len(seeds)), seeds)]
            problem, state = freed[0][0], _stack([one for _, one in freed])
            p, pace = compiled(problem.program), _Pace()
        order, done = p.order(setting, seeds_, np.int32(epoch)), 0
        total = _nothing(len(seeds))
        while done < problem.steps_per_epoch and np.isfinite(total.loss).any():
            count = pace.next(problem.steps_per_epoch - done)
            state, sums = p.chunk(setting, state, total, resident, seeds_, order, np.int32(done), np.int32(count))
            total = jax.device_get(sums)
            done += count
            pace.finished(count)
            on_progress((epoch + done / problem.steps_per_epoch) / epochs)
        states = _apart(state, len(seeds))
        entries = [_entry(problem, *own, watch) for own in zip(states, data, _apart(total, len(seeds)))]
        seconds = (time.perf_counter() - started) / len(seeds)
        for entry, history in zip(entries, histories):
            if not history or history[-1]['train_loss'] is not None:
                history.append({'epoch': epoch + 1, **entry, 'seconds': seconds})
        if not np.isfinite(total.loss).any():
            break
        if patience is not None:
            since = _epochs_since_best(histories[0])
            if since == 0 and not _diverged(histories[0]):
                best = jax.tree.map(jnp.copy, state)  # the next step is given the memory of this one
            elif since >= patience:
                break
    if best is not None:
        return [Fit(problem, best, histories[0], False)]
    return [Fit(problem, one, history, _diverged(history)) for one, history in zip(_apart(state, len(seeds)), histories)]


def _nothing(seeds: int) -> Metrics:
    """The sums of several seeds before the first step."""
    return _stack([engine.NOTHING] * seeds)


def at_once(problem: Problem, data: Arrays) -> int:
    """How many seeds of the problem fit into the memory of the device, at least one: by what the compiler says that one of them takes."""
    c = problem.config
    ends_as = dataclasses.replace(c, model=c.final_model, train=dataclasses.replace(c.train, relax_epoch=None))
    problems = {problem, dataclasses.replace(problem, config=ends_as)} if c.train.relax_epoch is not None else {problem}
    shapes = jax.eval_shape(lambda: _resident([data]))
    images = _bytes(shapes.pool)
    each = max(_bytes_of_one(one, shapes) for one in problems) - images
    memory = (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit') or cost.memory()
    return max(1, int((_MEMORY_SHARE * memory - images) // each))


def _bytes_of_one(problem: Problem, shapes: Arrays) -> int:
    """What a chunk of one seed takes, its arguments and results included."""
    p, seed = engine.programs(problem.program), np.uint32(0)
    state, order = jax.eval_shape(p.init, seed), jax.eval_shape(p.order, problem.setting, seed, np.int32(0))
    chunk: Any = p.chunk
    need = chunk.lower(problem.setting, state, engine.NOTHING, shapes, seed, order, np.int32(0), np.int32(1)).compile().memory_analysis()
    return need.temp_size_in_bytes + need.argument_size_in_bytes + need.output_size_in_bytes


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _resident(data: Sequence[Arrays]) -> Arrays:
    """What is held on the device: the images once, draw and scale of every seed."""
    return jax.tree.map(
        jnp.asarray,
        Arrays(
            pool=data[0].pool,
            draw=_stack([arrays.draw for arrays in data]),
            train=None,
            validation=None,
            test=None,
            unseen=None,
            positions=data[0].positions,
            scale=_stack([arrays.scale for arrays in data]),
        ),
    )


def _stack(trees: Sequence[Any]) -> Any:
    """Trees of several seeds as one whose leaves have the seeds as their first axis; one alone stays as it is."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) if len(trees) > 1 else trees[0]


def _apart(tree: Any, number: int) -> list[Any]:
    """The inverse of `_stack`."""
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(number)] if number > 1 else [tree]


def _entry(problem: Problem, state: State, data: Arrays, sums: Metrics, watch: Watch) -> dict[str, Any]:
    """What the history says of an epoch; None throughout when its loss was not finite."""
    assert data.validation is not None
    if not math.isfinite(sums.loss):
        return _named('train', None) | _named('validation', None)
    scores = score(problem, state, data.scale, data.validation)
    seen = watch(problem, state, data) if math.isfinite(scores['loss']) else {}
    return _named('train', sums.means()) | _named('validation', scores) | seen


def _epochs_since_best(history: Sequence[dict[str, Any]]) -> int:
    """How many epochs ago the validation loss was lowest, 0 if now; of equals the first counts."""
    losses = [loss if loss is not None and math.isfinite(loss) else math.inf for loss in (entry['validation_loss'] for entry in history)]
    return len(losses) - 1 - min(range(len(losses)), key=losses.__getitem__)


def _diverged(history: Sequence[dict[str, Any]]) -> bool:
    last = history[-1]['validation_loss']
    return last is None or not math.isfinite(last)


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
