"""The training loop: fit, for one seed or for several in one program; relaxation on the way; scores that count every example once."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_research import batches, embedding, engine, feeds, hosts, mesh
from cnn_research.engine import Metrics, State
from cnn_research.pace import Pace, Trace
from cnn_research.problem import Array, Arrays, Examples, Problem

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

    All splits go through one compiled program, a batch at a time; the sums are kept in float64. All devices of the state's mesh take part.
    """
    number, on = len(examples.labels), mesh.of(state)
    size = math.ceil(_EVALUATION_BATCH / mesh.readers(on)) * mesh.readers(on)
    total = Metrics(np.zeros(()), np.zeros((), np.int64), np.zeros((), np.int64))
    numbers = np.arange(math.ceil(number / size) * size).reshape(-1, size)
    # Rows past the end repeat the last one: any row will do, for it weighs nothing.
    for own, batch in zip(numbers, batches.of(examples, np.minimum(numbers, number - 1))):
        batch, weights = mesh.rows(on, (batch, (own < number).astype(np.int32)))
        total += jax.device_get(engine.programs(problem.program).evaluate(state.params, state.batch_stats, scale, batch, weights))
    return total.means()


def freed(problem: Problem) -> Problem:
    """The problem as it is once relaxed; itself where it never is."""
    c = problem.config
    ends_as = dataclasses.replace(c, model=c.final_model, train=dataclasses.replace(c.train, relax_epoch=None))
    return dataclasses.replace(problem, config=ends_as)


def relax(problem: Problem, state: State, seed: int) -> tuple[Problem, State]:
    """The same network with the sharing that `relax_to` names, free to leave it: same outputs, a new optimizer, the schedule goes on."""
    c = problem.config
    variables = mesh.fetch({'params': state.params, 'batch_stats': state.batch_stats})
    key = engine.key(jnp.uint32(seed), engine.EMBED)
    _, embedded = embedding.embed_model(c.model, variables, problem.image, c.train.relax_to, key)
    embedded, problem = hosts.of_first(embedded), freed(problem)  # processors of several kinds might round otherwise
    opt_state = engine.fresh(problem.program, embedded['params'])
    return problem, state.replace(params=embedded['params'], opt_state=opt_state)


def divergence(state: State) -> dict[str, Any]:
    """Where a training that diverged did so: `diverged_at`, the number of the step from 1, and `diverged_in`, the first array of
    parameters or batch statistics before that step with a value that is not finite, by its path, or else 'loss'."""
    broken = (
        f'{part}/{jax.tree_util.keystr(path, simple=True, separator="/")}'
        for part in ('params', 'batch_stats')
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, part))
        if not np.isfinite(np.asarray(mesh.fetch(leaf), np.float64)).all()
    )
    return {'diverged_at': int(state.diverged) or int(state.step), 'diverged_in': next(broken, 'loss')}


@dataclasses.dataclass
class Progress:
    """Where a training is: all that it needs to go on from here.

    Of several seeds, `state`, `total` and `best` have them as their first axis, and there is a history for each. `total`: sums over the
    `done` steps of the epoch (from 0); `best`: the state of the lowest validation loss, with patience; `ended`: nothing is left to do.
    """

    problem: Problem
    state: State
    total: Metrics
    histories: list[list[dict[str, Any]]]
    epoch: int = 0
    done: int = 0
    seconds: float = 0.0  # that the epoch has taken so far
    best: State | None = None
    ended: bool = False
    pace: Pace = dataclasses.field(default_factory=Pace)


class Keeper(Protocol):
    """Keeps the progress of a training where a crash does not reach it."""

    def resumed(self, problem: Problem, seeds: Sequence[int]) -> Progress | None:
        """Where this training was when it was last kept; None: nowhere."""
        ...

    def passed(self, progress: Progress) -> None:
        """Called after every chunk of steps, about once a second: may keep it, and may raise to end the training."""
        ...


def begin(problem: Problem, seeds: Sequence[int], on: Mesh | None = None, shapes: bool = False) -> Progress:
    """Before the first step. With `shapes`, arrays of the state are shapes alone."""
    init, seeds_ = _programs(problem, len(seeds), on).init, mesh.stack([np.uint32(seed) for seed in seeds])
    state = jax.eval_shape(init, seeds_) if shapes else init(seeds_)
    return Progress(problem, state, _nothing(len(seeds)), [[] for _ in seeds])


def _programs(problem: Problem, seeds: int, on: Mesh | None) -> engine.Programs:
    if on is not None:
        return mesh.programs(problem.program, on, seeds > 1)
    return (engine.together if seeds > 1 else engine.programs)(problem.program)


def _nothing(seeds: int) -> Metrics:
    return mesh.stack([engine.NOTHING] * seeds)


def fit(
    problem: Problem,
    data: Arrays,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
    keeper: Keeper | None = None,
    on: Mesh | None = None,
) -> Fit:
    """Train from scratch. `on_progress` hears the share done, in [0, 1], about once a second. Ends early when the loss is not finite.

    `watch` is called after every epoch; what it returns is added to the epoch's entry in the history. With a `keeper`, training goes on
    from where it was last kept, to the same bits. on: the devices that take part, see `mesh.make` (None: the first alone).
    """
    return fit_together(problem, [data], [seed], on_progress, watch, keeper, on)[0]


def fit_together(
    problem: Problem,
    data: Sequence[Arrays],
    seeds: Sequence[int],
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
    keeper: Keeper | None = None,
    on: Mesh | None = None,
    profile: str | None = None,
) -> list[Fit]:
    """`fit` for several seeds in one program, each on its own arrays of the problem: what every one would be alone, but for rounding.

    `seconds` of the history are a seed's share of the time. profile: a folder, which gets the trace of a few steps (`jax.profiler`).

    Raises:
      ValueError: several seeds with patience, which would end at different epochs.
    """
    if problem.config.train.patience is not None and len(seeds) > 1:
        raise ValueError('seeds with patience are trained one by one')
    run = (keeper.resumed(problem, seeds) if keeper else None) or begin(problem, seeds, on)
    run.state, run.best = (mesh.place(on, state, len(seeds) > 1) for state in (run.state, run.best))
    feed, epochs, trace = feeds.feed(data, on), problem.config.train.epochs, Trace(profile)

    def passed(run: Progress) -> None:
        on_progress((run.epoch + run.done / run.problem.steps_per_epoch) / epochs)
        trace.passed(run.pace)
        if keeper:
            keeper.passed(run)

    with trace:
        while run.epoch < epochs and not run.ended:
            if run.epoch == run.problem.config.train.relax_epoch:
                _relax_all(run, seeds, on)
            _steps(run, feed, seeds, passed, on)
            _end_epoch(run, data, watch)
    if run.best is not None:
        return [Fit(run.problem, run.best, run.histories[0], False)]
    states = mesh.apart(run.state, len(seeds))
    if on is not None and len(seeds) > 1:  # side by side they fit on the devices, one beside the other they need not
        states = map(mesh.fetch, states)
    return [Fit(run.problem, one, history, _diverged(history)) for one, history in zip(states, run.histories)]


def _relax_all(run: Progress, seeds: Sequence[int], on: Mesh | None) -> None:
    """`relax` of every seed."""
    relaxed = [relax(run.problem, one, seed) for one, seed in zip(mesh.apart(run.state, len(seeds)), seeds)]
    run.problem, run.pace = relaxed[0][0], Pace()
    run.state = mesh.place(on, mesh.stack([state for _, state in relaxed]), len(seeds) > 1)


def _steps(run: Progress, feed: feeds.Feed, seeds: Sequence[int], passed: Callable[[Progress], None], on: Mesh | None) -> None:
    """What is left of the epoch's steps, in chunks."""
    p = _programs(run.problem, len(seeds), on)
    setting, seeds_ = run.problem.setting, mesh.stack([np.uint32(seed) for seed in seeds])
    order = p.order(setting, seeds_, np.int32(run.epoch))
    feed.begin(run.problem, order, run.done)
    while run.done < run.problem.steps_per_epoch and np.isfinite(run.total.loss).any():
        started = time.perf_counter()
        count = hosts.agreed(min(run.pace.next(run.problem.steps_per_epoch - run.done), feed.most))
        run.state, total = p.chunk(setting, run.state, run.total, feed.next(count), seeds_, order, np.int32(run.done), np.int32(count))
        run.total = mesh.fetch(total)
        run.done += count
        run.seconds += time.perf_counter() - started
        run.pace.finished(count)
        passed(run)


def _end_epoch(run: Progress, data: Sequence[Arrays], watch: Watch) -> None:
    """The epoch's entries in the histories, whether training is to end, and on to the next epoch."""
    started = time.perf_counter()
    number, finite = len(run.histories), np.isfinite(run.total.loss).any()
    sums = [Metrics(*each) for each in zip(*(np.atleast_1d(a) for a in run.total))]
    scored = run.state if number == 1 else run.state.replace(opt_state=())
    entries = [_entry(run.problem, *own, watch) for own in zip(mesh.apart(scored, number), data, sums)]
    seconds = (run.seconds + time.perf_counter() - started) / number
    for entry, history in zip(entries, run.histories):
        if not history or history[-1]['train_loss'] is not None:
            history.append({'epoch': run.epoch + 1, **entry, 'seconds': seconds})
    patience = run.problem.config.train.patience
    if not finite:
        run.ended = True
    elif patience is not None:
        since = _epochs_since_best(run.histories[0])
        if since == 0 and not _diverged(run.histories[0]):
            run.best = jax.tree.map(jnp.copy, run.state)  # the next step is given the memory of this one
        run.ended = since >= patience
    run.epoch, run.done, run.seconds, run.total = run.epoch + 1, 0, 0.0, _nothing(number)


def at_once(problem: Problem, data: Arrays) -> int:
    """How many seeds of the problem fit into the memory of a device, at least one: by what the compiler says that one of them takes."""
    problems = {problem, freed(problem)} if problem.config.train.relax_epoch is not None else {problem}
    shapes = jax.eval_shape(lambda: feeds.resident([data]))
    images = _bytes(shapes.pool)
    each = max(_bytes_of_one(one, shapes) for one in problems) - images
    return max(1, int((_MEMORY_SHARE * hosts.device_memory() - images) // each))


def _bytes_of_one(problem: Problem, shapes: Arrays) -> int:
    """What a chunk of one seed takes, its arguments and results included."""
    p, seed = engine.programs(problem.program), np.uint32(0)
    state, order = jax.eval_shape(p.init, seed), jax.eval_shape(p.order, problem.setting, seed, np.int32(0))
    chunk: Any = p.chunk
    need = chunk.lower(problem.setting, state, engine.NOTHING, shapes, seed, order, np.int32(0), np.int32(1)).compile().memory_analysis()
    return need.temp_size_in_bytes + need.argument_size_in_bytes + need.output_size_in_bytes


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


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
