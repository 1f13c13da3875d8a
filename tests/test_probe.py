"""What is tested all over the canvas equals what is tested there by itself; patience; Adadelta; moves on the canvas; cells refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import BASE, noise, posed, same_bits

from cnn_research import ablation, cost, engine, errors, images, measure, models, probe, problem, sweep, train, trainings
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig
from cnn_research.data import load
from cnn_research.ledger import Ledger
from cnn_research.problem import Examples

PROBED = dataclasses.replace(BASE, data=dataclasses.replace(BASE.data, probe=True))


def test_accuracy_by_position_is_that_of_the_images_there(monkeypatch):
    p, arrays, programs = posed(PROBED)
    state = programs.init(np.uint32(0))
    found = probe.probe(p, state, arrays)
    assert found['position_rows'] == found['position_columns'] == [0, 1, 2, 3]  # 6 x 6 on 9 x 9
    shares = np.array(found['position_accuracy'])
    assert shares.shape == (4, 4) and found['anywhere_accuracy'] == pytest.approx(shares.mean())
    for row, column in ((0, 0), (3, 1)):
        corners = np.tile(np.array([[row, column]], np.int32), (300, 1))
        alone = train.score(p, state, arrays.scale, Examples(arrays.test.images, arrays.test.labels, corners))
        assert shares[row, column] == alone['accuracy']
    monkeypatch.setattr(probe, 'PLACES', 2)
    few = probe.probe(p, state, arrays)
    assert few['position_rows'] == [0, 3] and np.array_equal(few['position_accuracy'], shares[::3, ::3])


def test_consistency_is_that_of_the_measure():
    p, arrays, programs = posed(PROBED)
    state = programs.init(np.uint32(0))
    found = probe.probe(p, state, arrays)
    canvas = np.zeros((300, 9, 9, 1), np.uint8)
    canvas[:, :6, :6] = arrays.test.images
    model = models.Network(p.config.model, p.num_classes)

    def logits(x):
        return model.apply({'params': state.params, 'batch_stats': state.batch_stats}, jnp.asarray(x, jnp.float32) * arrays.scale)

    for name, circular, most in (('consistency', False, (3, 3)), ('circular_consistency', True, (8, 8))):
        moves = measure.random_moves(jax.random.key(probe._KEY), 300, (0, 0), most)
        assert found[name] == pytest.approx(measure.consistency(logits, jnp.asarray(canvas), moves, circular=circular))
        assert 0.4 < found[name] <= 1


def test_a_probed_cell_has_its_facts_in_its_row_and_another_has_not():
    for c, has in ((PROBED, True), (BASE, False)):
        row, _, _ = trainings.run_cell('e', sweep.Cell('a', 0, c, 1), noise())
        assert row['status'] == 'ok' and ('anywhere_accuracy' in row) == has
    tuned, _, _ = trainings.run_cell('e', sweep.Cell('a', 0, PROBED, 1, 'tune'), noise())
    assert 'anywhere_accuracy' not in tuned
    with pytest.raises(errors.InputError, match='probe needs a canvas'):
        DataConfig(probe=True)


def test_patience_ends_training_and_keeps_the_state_of_the_lowest_validation_loss():
    c = dataclasses.replace(BASE, train=TrainConfig(epochs=12, batch_size=16, learning_rate=0.1, schedule='constant', patience=2))
    p, arrays, _ = posed(c)
    fit = train.fit(p, arrays, 0)
    losses = [entry['validation_loss'] for entry in fit.history]
    best = int(np.argmin(losses))
    assert len(losses) < 12 and len(losses) == best + 3  # noise cannot be learned
    patient = dataclasses.replace(c, train=dataclasses.replace(c.train, patience=None))
    whole = train.fit(posed(patient)[0], arrays, 0).history
    assert [entry['validation_loss'] for entry in whole[: len(losses)]] == losses
    assert train.score(p, fit.state, arrays.scale, arrays.validation)['loss'] == losses[best]
    assert int(fit.state.step) == (best + 1) * p.steps_per_epoch
    row, history, _ = trainings.run_cell('e', sweep.Cell('a', 0, c, 1), noise())
    assert row['epochs'] == len(history) == len(losses)
    again = train.fit(p, arrays, 0)
    assert same_bits(again.state, fit.state)


def test_patience_is_for_one_seed_and_one_network():
    c = dataclasses.replace(BASE, train=TrainConfig(patience=2))
    p, arrays, _ = posed(c)
    with pytest.raises(ValueError, match='one by one'):
        train.fit_together(p, [arrays, arrays], [0, 1])
    with pytest.raises(errors.InputError, match='has no patience'):
        TrainConfig(patience=2, relax_epoch=1)
    cells = [sweep.Cell('a', seed, c, 1) for seed in range(3)]
    assert [len(team) for team in trainings.teams(cells, 'gpu', sweep.How(1))] == [1, 1, 1]
    assert [len(team) for team in trainings.teams([dataclasses.replace(cell, config=BASE) for cell in cells], 'gpu', sweep.How(1))] == [3]


def test_adadelta_is_the_one_of_its_paper_with_decay_in_the_gradient(x64):
    c = Config(ModelConfig(), DataConfig('noise'), TrainConfig(optimizer='adadelta', weight_decay=0.1))
    program = problem.Problem(c, (6, 6, 1), 3, 96, 96).program
    random = np.random.default_rng(0)
    w, squares, moves = random.standard_normal(5), np.zeros(5), np.zeros(5)
    optimizer = engine.optimizer(program, 0.5, 0.1)
    params, state = jnp.asarray(w), optimizer.init(jnp.asarray(w))
    for _ in range(4):
        grads = random.standard_normal(5)
        updates, state = optimizer.update(jnp.asarray(grads), state, params)
        params = params + updates
        g = grads + 0.1 * w
        squares = 0.9 * squares + 0.1 * g**2
        step = np.sqrt(moves + 1e-6) / np.sqrt(squares + 1e-6) * g
        moves = 0.9 * moves + 0.1 * step**2
        w = w - 0.5 * step
    np.testing.assert_allclose(params, w, rtol=1e-12)


def test_images_are_moved_on_their_canvas_not_in_their_frame():
    c = Config(ModelConfig(), DataConfig('noise', None, (9, 9), 'center'), TrainConfig(batch_size=16, shift=3))
    p, arrays, _ = posed(c)
    chosen = np.arange(16)
    shown = np.asarray(engine.drawn(p.program, arrays, arrays.pool.images[chosen], np.uint32(0), np.int32(5)))
    whole = np.asarray(images.place(arrays.pool.images[chosen], np.tile(arrays.positions, (16, 1)), (9, 9)))
    by = set()
    for image, before in zip(shown, whole):
        padded = np.pad(before, ((3, 3), (3, 3), (0, 0)))
        fits = [(a, b) for a in range(7) for b in range(7) if np.array_equal(padded[a : a + 9, b : b + 9], image)]
        assert len(fits) == 1
        by |= set(fits)
    assert len(by) > 8


def test_what_the_machine_cannot_hold_is_refused_and_counted(monkeypatch):
    c = Config(ModelConfig(sharing=('dense', 'dense')), DataConfig('digits'), TrainConfig(epochs=1))
    monkeypatch.setattr(cost, 'memory', lambda: 10**6)
    row, history, params = trainings.run_cell('e', sweep.Cell('a', 0, c, 1), load('digits'))
    assert row['status'] == 'refused' and 'this machine has 1 MB' in row['error'] and not history and not params
    assert row['weights'] == cost.total(c.model, (8, 8, 1), 10).weights and row['test_accuracy'] is None


def test_what_was_refused_runs_where_there_is_more_memory(tmp_path, monkeypatch):
    c = Config(ModelConfig(sharing=('dense', 'dense')), DataConfig('digits'), TrainConfig(epochs=1))
    need = cost.training_bytes(c.model, (8, 8, 1), 10, c.train)
    cell, book = sweep.Cell('a', 0, c, 1, need=need), Ledger(tmp_path)
    book.create({})
    (result,) = trainings.run_team('e', [cell], load('digits'), means=trainings.Means(memory=need - 1))
    assert result[0]['status'] == 'refused' and 'each worker has' in result[0]['error']
    with book.claim(cell.name):
        book.record(*result)
    assert sweep.missing(book, [cell], need - 1) == [] and sweep.missing(book, [cell], need) == [cell]
    monkeypatch.setattr(cost, 'memory', lambda: need)
    assert sweep.missing(book, [cell]) == [cell]


def test_an_arm_may_change_data_and_training():
    def moved(c):
        return dataclasses.replace(c, data=DataConfig('digits/12'), train=dataclasses.replace(c.train, shift=2))

    base = Config(ModelConfig(), DataConfig('digits'))
    e = ablation.Experiment('e', '?', {'a': lambda m: m, 'b': ablation.Varied(lambda m: m.with_kernel_size(9), moved)}, {}, base)
    sizes = {'digits': (8, 8, 1), 'digits/12': (24, 24, 1)}
    arms = e.resolve(base, lambda data: (sizes[data.dataset], 10))
    assert arms['a'] == base and arms['b'].data.dataset == 'digits/12' and arms['b'].train.shift == 2
    with pytest.raises(errors.InputError, match='arm b: a kernel of 9 is larger'):
        e.resolve(base, lambda data: ((8, 8, 1), 10))


def test_an_experiment_about_its_own_data_alone_says_so():
    base = Config(ModelConfig(), DataConfig('edges'))
    e = ablation.Experiment('e', '?', {'a': lambda m: m}, {}, base)
    assert e.base('edges') == base and e.base('edges/noise0').data.dataset == 'edges/noise0'
    with pytest.raises(errors.InputError, match='e is about edges alone, not about mnist'):
        e.base('mnist')


def test_a_task_with_a_second_test_has_it_in_its_row_by_both_names():
    model = ModelConfig((2,), (3,), (2,), (2,), ('shared',), head='gmp')
    c = Config(model, DataConfig('red_green', 100), TrainConfig(epochs=1, batch_size=50))
    row, _, _ = trainings.run_cell('e', sweep.Cell('a', 0, c, 1), load('red_green'))
    assert row['similar_accuracy'] == row['test_accuracy'] and row['dissimilar_accuracy'] == row['unseen_accuracy'] is not None
    placed = dataclasses.replace(c, data=DataConfig('red_green', 100, (40, 40), 'left'))
    with pytest.raises(errors.InputError, match='positions of its own'):
        problem.make(placed, load('red_green'))
