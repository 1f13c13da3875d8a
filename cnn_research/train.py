"""The training loop: fit, for one seed or for several in one program; relaxation on the way; scores that count every example once."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from cnn_research import cost, embedding, engine
from cnn_research.engine import Metrics, State
from cnn_research.problem import Array, Arrays, Examples, Problem

_CHUNK_SECONDS = 1.0  # how long one compiled call should last: progress stays live, dispatch costs nothing
_FIRST_STEPS = 4  # of a call that compiles, whose time says nothing
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


def freed(problem: Problem) -> Problem:
    """The problem as it is once relaxed; itself where it never is."""
    c = problem.config
    ends_as = dataclasses.replace(c, model=c.final_model, train=dataclasses.replace(c.train, relax_epoch=None))
    return dataclasses.replace(problem, config=ends_as)


def relax(problem: Problem, state: State, seed: int) -> tuple[Problem, State]:
    """The same network with the sharing that `relax_to` names, free to leave it: same outputs, a new optimizer, the schedule goes on."""
    c = problem.config
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    key = engine.key(jnp.uint32(seed), engine.EMBED)
    _, embedded = embedding.embed_model(c.model, variables, problem.image, c.train.relax_to, key)
    problem = freed(problem)
    opt_state = engine.fresh(problem.program, embedded['params'])
    return problem, state.replace(params=embedded['params'], opt_state=opt_state)


def divergence(state: State) -> dict[str, Any]:
    """Where a training that diverged did so: `diverged_at`, the number of the step from 1, and `diverged_in`, the first array of
    parameters or batch statistics before that step with a value that is not finite, by its path, or else 'loss'."""
    broken = (
        f'{part}/{jax.tree_util.keystr(path, simple=True, separator="/")}'
        for part in ('params', 'batch_stats')
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(state, part))
        if not np.isfinite(np.asarray(leaf, np.float64)).all()
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
    pace: '_Pace' = dataclasses.field(default_factory=lambda: _Pace())


class Keeper(Protocol):
    """Keeps the progress of a training where a crash does not reach it."""

    def resumed(self, problem: Problem, seeds: Sequence[int]) -> Progress | None:
        """Where this training was when it was last kept; None: nowhere."""
        ...

    def passed(self, progress: Progress) -> None:
        """Called after every chunk of steps, about once a second: may keep it, and may raise to end the training."""
        ...


def begin(problem: Problem, seeds: Sequence[int], shapes: bool = False) -> Progress:
    """Before the first step. With `shapes`, arrays of the state are shapes alone."""
    compiled = engine.together if len(seeds) > 1 else engine.programs
    init, seeds_ = compiled(problem.program).init, _stack([np.uint32(seed) for seed in seeds])
    state = jax.eval_shape(init, seeds_) if shapes else init(seeds_)
    return Progress(problem, state, _nothing(len(seeds)), [[] for _ in seeds])


def _nothing(seeds: int) -> Metrics:
    return _stack([engine.NOTHING] * seeds)


def fit(
    problem: Problem,
    data: Arrays,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
    keeper: Keeper | None = None,
) -> Fit:
    """Train from scratch. `on_progress` hears the share done, in [0, 1], about once a second. Ends early when the loss is not finite.

    `watch` is called after every epoch; what it returns is added to the epoch's entry in the history. With a `keeper`, training goes on
    from where it was last kept, to the same bits.
    """
    return fit_together(problem, [data], [seed], on_progress, watch, keeper)[0]


def fit_together(
    problem: Problem,
    data: Sequence[Arrays],
    seeds: Sequence[int],
    on_progress: Callable[[float], None] = lambda share: None,
    watch: Watch = lambda problem, state, data: {},
    keeper: Keeper | None = None,
) -> list[Fit]:
    """`fit` for several seeds in one program, each on its own arrays of the problem: what every one would be alone, but for rounding.

    `seconds` of the history are a seed's share of the time.

    Raises:
      ValueError: several seeds with patience, which would end at different epochs.
    """
    if problem.config.train.patience is not None and len(seeds) > 1:
        raise ValueError('seeds with patience are trained one by one')
    run = (keeper.resumed(problem, seeds) if keeper else None) or begin(problem, seeds)
    resident, epochs = _resident(data), problem.config.train.epochs

    def passed(run: Progress) -> None:
        on_progress((run.epoch + run.done / run.problem.steps_per_epoch) / epochs)
        if keeper:
            keeper.passed(run)

    while run.epoch < epochs and not run.ended:
        if run.epoch == run.problem.config.train.relax_epoch:
            relaxed = [relax(run.problem, one, seed) for one, seed in zip(_apart(run.state, len(seeds)), seeds)]
            run.problem, run.state, run.pace = relaxed[0][0], _stack([one for _, one in relaxed]), _Pace()
        _steps(run, resident, seeds, passed)
        _end_epoch(run, data, watch)
    if run.best is not None:
        return [Fit(run.problem, run.best, run.histories[0], False)]
    states = _apart(run.state, len(seeds))
    return [Fit(run.problem, one, history, _diverged(history)) for one, history in zip(states, run.histories)]


def _steps(run: Progress, resident: Arrays, seeds: Sequence[int], passed: Callable[[Progress], None]) -> None:
    """What is left of the epoch's steps, in chunks."""
    p = (engine.together if len(seeds) > 1 else engine.programs)(run.problem.program)
    setting, seeds_ = run.problem.setting, _stack([np.uint32(seed) for seed in seeds])
    order = p.order(setting, seeds_, np.int32(run.epoch))
    while run.done < run.problem.steps_per_epoch and np.isfinite(run.total.loss).any():
        started = time.perf_counter()
        count = run.pace.next(run.problem.steps_per_epoch - run.done)
        run.state, total = p.chunk(setting, run.state, run.total, resident, seeds_, order, np.int32(run.done), np.int32(count))
        run.total = jax.device_get(total)
        run.done += count
        run.seconds += time.perf_counter() - started
        run.pace.finished(count)
        passed(run)


def _end_epoch(run: Progress, data: Sequence[Arrays], watch: Watch) -> None:
    """The epoch's entries in the histories, whether training is to end, and on to the next epoch."""
    started = time.perf_counter()
    number, finite = len(run.histories), np.isfinite(run.total.loss).any()
    sums = [Metrics(*each) for each in zip(*(np.atleast_1d(a) for a in run.total))]
    entries = [_entry(run.problem, *own, watch) for own in zip(_apart(run.state, number), data, sums)]
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
    """How many seeds of the problem fit into the memory of the device, at least one: by what the compiler says that one of them takes."""
    problems = {problem, freed(problem)} if problem.config.train.relax_epoch is not None else {problem}
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
        return max(1, min(left, int(_CHUNK_SECONDS / self.per_step) if self.per_step < math.inf else _FIRST_STEPS))

    def finished(self, count: int) -> None:
        if self.warm:
            self.per_step = (time.perf_counter() - self.started) / count
        self.warm = True
