"""Training: pure functions of the seed, bits that no chunking changes, exact metrics, and compiling once."""

import dataclasses
import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_research import data, engine, models, pace, problem, sweep, train, trainings
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig
from cnn_research.data import Dataset

SMALL = {'features': (2,), 'kernel_sizes': (3,), 'strides': (1,), 'pools': (1,), 'sharing': ('shared',), 'head': 'gmp'}
PLACED = DataConfig('noise', canvas=(9, 9), train_positions='left', unseen_positions='any')
# Batch norm, a canvas, six steps an epoch.
BASE = Config(ModelConfig(**SMALL, norm='batch'), PLACED, TrainConfig(epochs=2, batch_size=16))


@functools.cache
def noise(count=96):
    """A data set of noise: `count` images of 6 x 6 to train on, 20 to validate, 300 to test, in 3 classes."""
    rng = np.random.RandomState(0)
    splits = []
    for n in (count, 20, 300):
        splits += [rng.randint(0, 256, (n, 6, 6, 1), np.uint8), rng.randint(0, 3, n, np.int32)]
    return Dataset('noise', *splits, ('a', 'b', 'c'))


def posed(c=BASE, dataset=None):
    """A problem, its arrays, and its compiled programs."""
    dataset = dataset or noise()
    p = problem.make(c, dataset)
    return p, problem.arrays(p, dataset, 0), engine.programs(p.program)


def same_bits(a, b):
    """Whether two trees have the same leaves, bit by bit."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs)


def run_in_chunks(counts, seed=0):
    """The state and the summed metrics after the first steps of the first epoch, taken so many at a time."""
    p, arrays, programs = posed()
    arrays, seed = arrays._replace(train=None, validation=None, test=None, unseen=None), np.uint32(seed)
    state, order, first, total = programs.init(seed), programs.order(p.setting, seed, np.int32(0)), 0, engine.NOTHING
    for count in counts:
        state, total = programs.chunk(p.setting, state, total, arrays, seed, order, np.int32(first), np.int32(count))
        first += count
    return state, total


@pytest.mark.parametrize('size', [96, 50])
def test_the_order_of_an_epoch_is_a_permutation_that_seed_and_epoch_fix(size):
    p, _, programs = posed(dataclasses.replace(BASE, data=dataclasses.replace(PLACED, train_size=size)))
    orders = {(s, e): np.asarray(programs.order(p.setting, np.uint32(s), np.int32(e))) for s in (0, 1) for e in (0, 1)}
    for (seed, epoch), order in orders.items():
        np.testing.assert_array_equal(np.sort(order[:size]), np.arange(size))
        np.testing.assert_array_equal(order, engine.epoch_order(p.program, p.setting, np.uint32(seed), np.int32(epoch)))
    assert len({order[:size].tobytes() for order in orders.values()}) == 4


def test_training_looks_at_the_images_of_the_draw_and_at_no_other():
    p, arrays, _ = posed(dataclasses.replace(BASE, data=dataclasses.replace(PLACED, train_size=40)))
    others = np.setdiff1d(np.arange(96), arrays.draw[:40])
    changed = np.array(arrays.pool.images)
    changed[others] = 255 - changed[others]
    same = train.fit(p, arrays._replace(pool=arrays.pool._replace(images=changed)), 0)
    assert same_bits(same.state, train.fit(p, arrays, 0).state)
    changed[arrays.draw[0]] = 0
    assert not same_bits(same.state, train.fit(p, arrays._replace(pool=arrays.pool._replace(images=changed)), 0).state)
    np.testing.assert_array_equal(arrays.pool.images[arrays.draw[:40]], arrays.train.images)


def test_chunking_changes_no_bit():
    whole, total = run_in_chunks([3])
    stepwise, sums = run_in_chunks([1, 1, 1])
    assert int(whole.step) == 3
    assert same_bits(whole, stepwise)
    assert same_bits(total, sums)
    assert int(total.number) == 48
    assert not same_bits(whole, run_in_chunks([2])[0])


def test_the_seed_fixes_every_bit_of_a_training():
    p, arrays, _ = posed()
    first, again, other = (train.fit(p, arrays, seed) for seed in (3, 3, 4))
    assert same_bits(first.state, again.state)
    assert not same_bits(first.state.params, other.state.params)
    for a, b in zip(first.history, again.history):
        assert a | {'seconds': 0} == b | {'seconds': 0}
    assert [entry['epoch'] for entry in first.history] == [1, 2]


def test_a_slow_machine_finds_the_same_history(monkeypatch):
    """On it a chunk holds fewer steps."""
    p, arrays, _ = posed()
    fits = []
    for seconds in (0, 100):
        monkeypatch.setattr(pace, '_CHUNK_SECONDS', seconds)
        fits.append([entry | {'seconds': 0} for entry in train.fit(p, arrays, 3).history])
    assert fits[0] == fits[1]


def test_seeds_epochs_train_sizes_and_rates_compile_nothing(caplog):
    """One of each is compiled, whatever the numbers are; another shape is another program."""
    one = dataclasses.replace(BASE.train, learning_rate=1e-3, weight_decay=0.1)

    def compilations(seed, train_size=None, **fields):
        c = dataclasses.replace(BASE, data=dataclasses.replace(PLACED, train_size=train_size), train=dataclasses.replace(one, **fields))
        p, arrays, _ = posed(c)
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            fit = train.fit(p, arrays, seed)
            train.score(p, fit.state, arrays.scale, arrays.train)
        return [record.message for record in caplog.records if 'compil' in record.message.lower()]

    assert compilations(0)
    assert compilations(1) == compilations(2, epochs=3) == compilations(0, train_size=50) == compilations(3, train_size=16) == []
    assert compilations(0, learning_rate=0.1, warmup=0.5) == compilations(0, weight_decay=0.2, train_size=33) == []
    programs = posed(dataclasses.replace(BASE, train=one))[2]
    assert [f._cache_size() for f in (programs.init, programs.order, programs.chunk, programs.evaluate)] == [1] * 4
    assert compilations(0, batch_size=8)


@pytest.mark.parametrize('split', ['test', 'unseen'])
def test_evaluation_counts_every_example_exactly_once(split):
    p, arrays, _ = posed()
    state = run_in_chunks([6])[0]
    examples = getattr(arrays, split)
    placed = np.zeros((300, 9, 9, 1), np.float32)
    for picture, image, (row, column) in zip(placed, examples.images, np.asarray(examples.corners)):
        picture[row : row + 6, column : column + 6] = image
    net = models.Network(p.config.model, 3)
    variables = {'params': state.params, 'batch_stats': state.batch_stats}
    logits = np.asarray(net.apply(variables, placed * np.asarray(arrays.scale)), np.float64)
    labels = np.asarray(examples.labels)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(300), labels]
    expected = {'loss': pytest.approx(losses.mean(), rel=1e-5), 'accuracy': (logits.argmax(1) == labels).mean()}
    assert train.score(p, state, arrays.scale, examples) == expected


def test_what_fills_a_batch_is_not_measured():
    logits, labels = np.array([[2.0, 1], [0, 3], [np.nan, 0], [9, 0]], np.float32), np.array([0, 0, 0, 0])
    metrics = engine.measure(logits, labels, np.array([1, 1, 0, 0]))
    expected = math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))
    assert (float(metrics.loss), int(metrics.correct), int(metrics.number)) == (pytest.approx(expected, rel=1e-6), 1, 2)


def test_batch_statistics_are_learned_in_training_and_used_in_evaluation():
    p, arrays, programs = posed()
    start, (state, _) = programs.init(np.uint32(0)), run_in_chunks([6])
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.all(a != b), start.batch_stats, state.batch_stats))
    assert moved == [True, True]
    untouched = state.replace(batch_stats=start.batch_stats)
    losses = [train.score(p, s, arrays.scale, arrays.test)['loss'] for s in (untouched, state)]
    assert losses[0] != losses[1]


def setting(total=20, **fields):
    """The numbers of a training of so many steps, one an epoch."""
    return problem.Problem(Config(ModelConfig(), train=TrainConfig(total, 1, **fields)), (6, 6, 1), 2, 1, 1).setting


@pytest.mark.parametrize('warmup', [0.0, 0.2, 0.95])
@pytest.mark.parametrize('total', [1, 20])
def test_the_rate_is_that_of_the_schedules_of_optax(warmup, total):
    numbers = setting(total, warmup=warmup, learning_rate=0.1)
    rising = min(round(warmup * total), total - 1)
    got = {kind: [engine.learning_rate(kind, numbers, np.int32(i)) for i in range(total)] for kind in ('cosine', 'constant')}
    falling = {'cosine': optax.cosine_decay_schedule(0.1, total - rising), 'constant': optax.constant_schedule(0.1)}
    for kind, rates in got.items():
        # From the first step on: none is taken at a rate of 0.
        up = optax.linear_schedule(0.1 / max(rising, 1), 0.1, max(1, rising - 1))
        expected = optax.join_schedules([up, falling[kind]], [rising]) if rising else falling[kind]
        np.testing.assert_allclose(rates, [expected(i) for i in range(total)], rtol=1e-5, atol=1e-8)
        assert np.isfinite(rates).all() and max(rates) > 0.05


@pytest.mark.parametrize('optimizer', ['adam', 'sgd'])
def test_weight_decay_is_decoupled_and_sgd_has_nesterov_momentum(optimizer):
    c = Config(ModelConfig(**SMALL), DataConfig('noise'), TrainConfig(optimizer=optimizer, weight_decay=0.5))
    moves = engine.optimizer(posed(c)[0].program, jnp.float32(0.1), jnp.float32(0.5))
    state, weight = moves.init(jnp.array(2.0)), jnp.array(2.0)
    for expected in (1.9, 0.9 * 1.9 + 1) if optimizer == 'sgd' else (1.0, 1.0):
        updates, state = moves.update(jnp.array(1.0), state, weight)
        assert float(updates) == pytest.approx(-0.1 * (expected + 0.5 * float(weight)), rel=1e-5)
        weight = optax.apply_updates(weight, updates)


def products(jaxpr):
    """All matrix products and convolutions in a jaxpr, however deep."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
            yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=lambda v: hasattr(v, 'eqns') or hasattr(v, 'jaxpr')):
            inner = getattr(value, 'jaxpr', value)
            if hasattr(inner, 'eqns'):
                yield from products(inner)


def test_every_product_of_a_training_step_asks_for_full_float32():
    sharing = ('shared', 'shared', 'local', 'dense')  # the second of them with many channels
    model = ModelConfig((8, 4, 2, 2), (3,) * 4, (1,) * 4, (1, 1, 2, 1), sharing, hidden=(4,))
    p = problem.make(dataclasses.replace(BASE, model=model), noise())
    state = jax.eval_shape(functools.partial(engine.init, p.program), np.uint32(0))
    images, labels = jax.ShapeDtypeStruct((16, *p.image), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32)
    jaxpr = jax.make_jaxpr(functools.partial(engine.step, p.program, p.setting))(state, images, labels)
    asked = [equation.params['precision'] for equation in products(jaxpr.jaxpr)]
    assert len(asked) >= 3 * 6 - 1  # forward and by both arguments for every layer; nothing goes back to the images
    assert set(asked) <= {jax.lax.Precision.HIGHEST, (jax.lax.Precision.HIGHEST,) * 2}


def test_two_epochs_on_digits_lower_the_loss():
    model, heard = ModelConfig(**{**SMALL, 'features': (8,), 'pools': (2,), 'head': 'flatten'}), []
    c = Config(model, DataConfig(), TrainConfig(2, 32, learning_rate=1e-2))
    p, arrays, programs = posed(c, data.load('digits'))
    before = train.score(p, programs.init(np.uint32(0)), arrays.scale, arrays.validation)
    fit = train.fit(p, arrays, 0, heard.append)
    assert not fit.diverged and int(fit.state.step) == 2 * (1237 // 32)
    losses = [before['loss'], *(entry['validation_loss'] for entry in fit.history)]
    assert losses[0] > losses[1] > losses[2] and fit.history[1]['validation_accuracy'] > 0.8
    assert fit.history[0]['train_loss'] > fit.history[1]['train_loss']
    assert train.score(p, fit.state, arrays.scale, arrays.validation)['loss'] == losses[2]
    assert heard == sorted(heard) and heard[0] > 0 and heard[-1] == 1


@pytest.mark.parametrize('epochs', [1, 3])
def test_a_training_that_diverges_says_so_and_has_no_scores(epochs):
    rate = TrainConfig(epochs, 96, 'sgd', learning_rate=1e29)  # one step an epoch
    c = Config(ModelConfig(**{**SMALL, 'head': 'flatten'}), DataConfig('noise'), rate)
    p, arrays, _ = posed(c)
    fit = train.fit(p, arrays, 0)
    assert fit.diverged and len(fit.history) == min(epochs, 2)
    if epochs == 3:
        assert {v for k, v in fit.history[-1].items() if k not in ('epoch', 'seconds')} == {None}
    row, history, params = trainings.run_cell('an experiment', sweep.Cell('arm', 0, c, 1), noise())
    assert row['status'] == 'diverged' and params == {} and row['diverged_at'] == 1 + (epochs == 3)
    assert {v for k, v in row.items() if k.endswith(('_loss', '_accuracy'))} == {None}
    assert history[-1]['validation_loss'] is None


def sgd(rate, **fields):
    """A problem in six steps an epoch at a constant rate."""
    c = Config(ModelConfig(**{**SMALL, 'head': 'flatten'}), DataConfig('noise'), TrainConfig(1, 16, 'sgd', rate, 'constant', 0.0, **fields))
    return posed(c)


def test_divergence_is_found_at_its_step_and_what_was_before_it_is_kept():
    p, arrays, programs = sgd(1e29)
    fit = train.fit(p, arrays, 0)
    found = train.divergence(fit.state)
    # by hand, one step after the other
    state, seed, losses = programs.init(np.uint32(0)), np.uint32(0), []
    order, data = programs.order(p.setting, seed, np.int32(0)), arrays._replace(train=None, validation=None, test=None, unseen=None)
    while not losses or np.isfinite(losses[-1]):
        before = jax.tree.map(np.array, state)
        state, sums = programs.chunk(p.setting, state, engine.NOTHING, data, seed, order, np.int32(len(losses)), np.int32(1))
        losses.append(float(sums.loss))
    assert found == {'diverged_at': len(losses), 'diverged_in': 'loss'} and len(losses) > 1
    assert same_bits(fit.state.params, before.params)


def test_the_first_array_that_is_not_finite_is_named():
    params = {'a': np.ones(2), 'b': {'kernel': np.array([1, np.inf]), 'bias': np.array(np.nan)}}
    state = engine.State(np.int32(5), params, {'mean': np.array(np.nan)}, (), np.int32(6))
    assert train.divergence(state) == {'diverged_at': 6, 'diverged_in': 'params/b/bias'}
    state = state.replace(params={}, diverged=np.int32(0))
    assert train.divergence(state) == {'diverged_at': 5, 'diverged_in': 'batch_stats/mean'}


def test_updates_that_are_not_finite_are_skipped_and_count_nowhere_up_to_a_number():
    p, arrays, programs = posed(dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, skip_nonfinite=2)))
    good = np.pad(arrays.train.images[:16] * arrays.scale, ((0, 0), (0, 3), (0, 3), (0, 0)))
    bad, labels, state = np.full_like(good, np.nan), arrays.train.labels[:16], programs.init(np.uint32(0))
    step = jax.jit(functools.partial(engine.step, p.program, p.setting))
    for row in ('good', 'bad', 'bad', 'good', 'bad', 'bad'):
        before = state
        state, sums = step(state, good if row == 'good' else bad, labels)
        assert int(state.step) == int(before.step) + 1 and int(state.diverged) == 0
        assert same_bits((before.params, before.batch_stats), (state.params, state.batch_stats)) == (row == 'bad')
        assert (int(sums.number), bool(np.isfinite(sums.loss))) == ((16, True) if row == 'good' else (0, True))
    given_up, sums = step(state, bad, labels)
    assert int(given_up.diverged) == 7 and np.isnan(sums.loss) and same_bits(given_up.params, state.params)
    after, sums = step(given_up, good, labels)
    assert same_bits((after.params, after.batch_stats), (state.params, state.batch_stats)) and np.isnan(sums.loss)
    assert int(after.diverged) == 7


def test_skipping_changes_nothing_in_a_training_that_is_finite():
    plain, skipping = (posed(dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, skip_nonfinite=n))) for n in (0, 3))
    one, other = (train.fit(p, arrays, 0) for p, arrays, _ in (plain, skipping))
    for a, b in zip(jax.tree.leaves(one.state.params), jax.tree.leaves(other.state.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-3)


def test_a_training_set_smaller_than_the_batch_is_one_batch():
    p, arrays, _ = posed(Config(ModelConfig(**SMALL), DataConfig('noise', train_size=10), TrainConfig(2, 512)))
    assert (p.batch_size, p.steps_per_epoch) == (10, 1)
    fit = train.fit(p, arrays, 0)
    assert int(fit.state.step) == 2 and not fit.diverged


def test_pixels_that_training_never_lights_teach_nothing():
    c = dataclasses.replace(BASE, model=ModelConfig(**{**SMALL, 'sharing': ('dense',)}))
    p, arrays, programs = posed(c)
    before, after = programs.init(np.uint32(0)), train.fit(p, arrays, 0).state
    moved = np.asarray(before.params['stage_0']['kernel'] != after.params['stage_0']['kernel']).any((0, 2, 3, 4, 5))
    assert moved.tolist() == [True] * 7 + [False] * 2  # images 6 wide with their left edge in column 0 or 1 of 9


def augmented_by(**fields):
    """BASE with augmentation, and without unseen positions, which a shift would reach."""
    return dataclasses.replace(
        BASE, data=dataclasses.replace(PLACED, unseen_positions=None), train=dataclasses.replace(BASE.train, **fields)
    )


def test_augmentation_is_part_of_training_a_pure_function_of_the_seed_and_no_part_of_evaluation():
    fits = {}
    for fields in ({}, {'shift': 2}, {'flip': True}, {'shift': 2, 'flip': True}):
        p, arrays, _ = posed(augmented_by(**fields))
        fits[str(fields)] = fit = train.fit(p, arrays, 0)
        assert same_bits(fit.state, train.fit(p, arrays, 0).state)
        scores = [train.score(problem_, fit.state, arrays.scale, arrays.test) for problem_ in (p, posed(augmented_by())[0])]
        assert scores[0] == scores[1]
    kernels = [np.asarray(fit.state.params['stage_0']['kernel']) for fit in fits.values()]
    assert len({kernel.tobytes() for kernel in kernels}) == 4


def test_every_move_and_mirror_image_is_drawn_and_drawn_evenly():
    program = posed(augmented_by(shift=1, flip=True))[0].program
    raw = np.zeros((900, 6, 6, 1), np.uint8)
    raw[:, 2, 3], raw[:, 3, 3] = 1, 2  # which way is up stays
    arrays = posed(augmented_by())[1]
    arrays = arrays._replace(pool=arrays.pool._replace(images=raw), positions=None)
    shown = [
        np.asarray(engine.drawn(program, arrays, arrays.pool.images[np.arange(900)], np.uint32(0), np.int32(step)))[..., 0]
        for step in (0, 1)
    ]
    assert not np.array_equal(*shown)
    places, counts = np.unique(np.argwhere(shown[0] == 1)[:, 1:], axis=0, return_counts=True)
    # Column 3, or 2 in the mirror, each moved by up to one.
    assert places.tolist() == [[row, column] for row in (1, 2, 3) for column in (1, 2, 3, 4)]
    assert counts.sum() == 900 and np.all(np.abs(counts - [50, 100, 100, 50] * 3) < 40)
