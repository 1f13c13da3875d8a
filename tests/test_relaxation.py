"""Relaxation: the same training until the weights are freed, the same outputs then, and a schedule that goes on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_train import BASE, noise, posed

from cnn_research import config, engine, errors, problem, projection, sweep, train, trained, trainings
from cnn_research.config import ModelConfig, TrainConfig
from cnn_research.ledger import Ledger

TWO = dataclasses.replace(BASE, train=TrainConfig(epochs=3, batch_size=16))
TIMES = {'seconds'}


def freed(epoch, to='dense', **more):
    return dataclasses.replace(TWO, train=dataclasses.replace(TWO.train, relax_epoch=epoch, relax_to=to, **more))


def without_times(history):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in history]


@pytest.mark.parametrize('to', ['local', 'dense'])
def test_freeing_keeps_every_output_and_starts_the_optimizer_anew(to):
    p, arrays, _ = posed(freed(1, to))
    fit = train.fit(dataclasses.replace(p, config=dataclasses.replace(p.config, train=dataclasses.replace(TWO.train, epochs=1))), arrays, 0)
    after, state = train.relax(p, fit.state, 0)
    assert after.config.model.sharing == (to,) and int(state.step) == 6
    for split in (arrays.test, arrays.unseen):
        before, now = (train.score(q, s, arrays.scale, split) for q, s in ((p, fit.state), (after, state)))
        assert now['accuracy'] == before['accuracy'] and now['loss'] == pytest.approx(before['loss'], rel=1e-5)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_a_relaxed_training_is_the_other_one_until_then_and_leaves_it_after():
    p, arrays, _ = posed(TWO)
    plain = train.fit(p, arrays, 0)
    relaxed = train.fit(posed(freed(2))[0], arrays, 0)
    assert without_times(relaxed.history)[:2] == without_times(plain.history)[:2]
    assert without_times(relaxed.history)[2] != without_times(plain.history)[2]
    assert relaxed.problem.config.model.sharing == ('dense',) and plain.problem.config.model.sharing == ('shared',)
    variables = {'params': relaxed.state.params}
    assert 0 < projection.distance(relaxed.problem.config.model, variables, p.image) < 0.9


def test_the_schedule_goes_on():
    """A step is taken at the rate of its number in the whole training, be the optimizer new."""
    c = dataclasses.replace(TWO, train=dataclasses.replace(TWO.train, optimizer='sgd', learning_rate=0.1))
    p, arrays, _ = posed(c)
    state = engine.programs(p.program).init(np.uint32(0)).replace(step=jnp.int32(7))
    x, labels = arrays.train.images[:16] * arrays.scale, arrays.train.labels[:16]
    x = np.pad(x, ((0, 0), (0, 3), (0, 3), (0, 0)))
    moved = []
    for rate in (p.setting.learning_rate, 2 * p.setting.learning_rate):
        after, _ = engine.step(p.program, p.setting._replace(learning_rate=rate), state, x, labels)
        moved.append(after.params['classes']['bias'] - state.params['classes']['bias'])
    np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-5)
    fresh, _ = engine.step(p.program, p.setting, state.replace(step=jnp.int32(0)), x, labels)
    share = engine.learning_rate('cosine', p.setting, 7) / engine.learning_rate('cosine', p.setting, 0)
    np.testing.assert_allclose(moved[0], share * (fresh.params['classes']['bias'] - state.params['classes']['bias']), rtol=1e-4)


def test_a_watched_cell_records_test_accuracy_and_distance_and_is_read_back_as_it_ended(tmp_path):
    book = Ledger(tmp_path)
    book.create({})
    c = freed(1, watch=True)
    row, history, params = trainings.run_cell('e', sweep.Cell('freed', 0, c, 1), noise())
    assert row['status'] == 'ok', row
    assert [entry['distance'] == 0 for entry in history] == [True, False, False]
    assert history[-1]['test_accuracy'] == row['test_accuracy']
    assert row['connections'] == 9 * 9 * 9 * 9 * 2 + 2 * 3  # dense, and the classes
    with book.claim('freed-seed0'):
        book.record(row, history, params)
    read = trained.load_cell(tmp_path, 'freed-seed0')
    assert read.model.config == c.final_model and read.model.config.sharing == ('dense',)
    _, tuning, _ = trainings.run_cell('e', sweep.Cell('freed', 0, c, 1, 'tune'), noise())
    assert not {'test_accuracy', 'distance'} & set(tuning[0])


def test_bad_relaxations_are_refused():
    for epoch, bound in ((-1, 'a whole number of at least 0'), (0.5, 'a whole number'), (3, 'at most 2')):
        with pytest.raises(errors.InputError, match=f'relax_epoch must be {bound}'):
            TrainConfig(epochs=3, relax_epoch=epoch)
    with pytest.raises(errors.InputError, match="sharing scheme 'free'; known"):
        TrainConfig(relax_to='free')
    assert config.Config(ModelConfig(), train=TrainConfig(relax_epoch=0, relax_to='local')).final_model.sharing == ('local',) * 2
    local = dataclasses.replace(freed(1, 'shared'), model=BASE.model.with_sharing('local'))
    p = problem.make(local, noise())
    state = engine.programs(p.program).init(np.uint32(0))
    with pytest.raises(errors.InputError, match='stage_0: no embedding of local into shared'):
        train.relax(p, state, 0)
