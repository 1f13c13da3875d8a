"""Several seeds in one program: each is what it would be alone; and cells that run as such a team."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from test_ledger import start
from test_train import BASE, noise, posed

from cnn_research import engine, feeds, mesh, problem, sweep, train, trainings, worker
from cnn_research.config import Config, ModelConfig, TrainConfig
from cnn_research.keeping import Asked
from cnn_research.ledger import Ledger

SEEDS = (3, 0, 5)
FEWER = dataclasses.replace(BASE, data=dataclasses.replace(BASE.data, train_size=80))  # so that every seed has its own draw


class News(list):
    """A queue that keeps everything."""

    put = list.append


def cells(c, seeds=SEEDS, purpose='main'):
    return [sweep.Cell('arm', seed, c, 1, purpose) for seed in seeds]


@pytest.mark.slow
def test_the_state_after_20_steps_is_that_of_a_run_alone(x64):
    """In float64, to 1e-10, through layers of every kind: draws, canvas, shifts and batch norm of one seed are nothing to the other."""
    schemes = ('shared', 'low_rank:2', 'tiled:2x2', 'local', 'dense')
    # Without maxima: on black background they are ties, which rounding would break.
    model = ModelConfig((4, 3, 2, 2, 2), (3, 2, 3, 3, 3), (1, 2, 1, 1, 1), (1,) * 5, schemes, norm='batch', head='gap')
    placed = dataclasses.replace(FEWER.data, unseen_positions=None)  # a shift would reach them
    c = Config(model, placed, TrainConfig(epochs=4, batch_size=16, shift=1, flip=True))
    p = problem.make(c, noise())

    def wide(tree):
        return jax.tree.map(lambda a: np.asarray(a, np.float64) if a.dtype == np.float32 else np.asarray(a), tree)

    data = [wide(problem.arrays(p, noise(), seed)) for seed in SEEDS]

    def trained(compiled, state, data, seeds):
        resident = feeds.resident(data)
        nothing = wide(train._nothing(np.size(seeds)))
        for epoch in range(4):
            order = compiled.order(p.setting, seeds, np.int32(epoch))
            state, _ = compiled.chunk(p.setting, state, nothing, resident, seeds, order, np.int32(0), np.int32(5))
        return state

    several, one, seeds = engine.together(p.program), engine.programs(p.program), np.array(SEEDS, np.uint32)
    starts = [wide(one.init(seed)) for seed in seeds]
    for got, wanted in zip(jax.tree.leaves(several.init(seeds)), jax.tree.leaves(mesh.stack(starts)), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)  # they are drawn in float32
    together = list(mesh.apart(trained(several, mesh.stack(starts), data, seeds), len(SEEDS)))
    for seed, begun, arrays, state in zip(seeds, starts, data, together):
        alone = trained(one, begun, [arrays], seed)
        assert int(state.step) == 20
        for got, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('c', [FEWER, dataclasses.replace(FEWER, train=dataclasses.replace(BASE.train, relax_epoch=1, watch=True))],
                         ids=['plain', 'relaxed'])  # fmt: skip
def test_a_team_of_cells_has_the_rows_that_its_cells_would_have(c):
    heard = []
    team = list(trainings.run_team('e', cells(c), noise(), heard.append))
    assert heard == sorted(heard) and heard[-1] == 1
    for cell, (row, history, params) in zip(cells(c), team):
        alone, its_history, its_params = trainings.run_cell('e', cell, noise())
        assert row['status'] == alone['status'] == 'ok' and row['seed'] == cell.seed and row['seconds'] > 0
        for name in ('train_loss', 'validation_loss', 'test_loss', 'unseen_loss'):
            assert row[name] == pytest.approx(alone[name], rel=0.02), name  # in float32 rounding grows
        assert [entry['epoch'] for entry in history] == [entry['epoch'] for entry in its_history] == [1, 2]
        assert {entry['cell'] for entry in history} == {cell.name}
        if c.train.watch:  # by the scale of the seed's own draw
            assert row['test_accuracy'] == history[-1]['test_accuracy']
        assert {k: v.shape for k, v in params.items()} == {k: v.shape for k, v in its_params.items()}
        np.testing.assert_array_equal(params['scale'], its_params['scale'])


def test_one_seed_that_diverges_leaves_the_others_alone():
    c = dataclasses.replace(BASE, train=TrainConfig(3, 16, 'sgd', learning_rate=1e-2))
    p, arrays, _ = posed(c)
    broken = arrays._replace(scale=np.full(1, np.float32(np.inf)))  # what one seed sees is not finite
    fits = train.fit_together(p, [arrays, broken, arrays], [0, 1, 2])
    assert [fit.diverged for fit in fits] == [False, True, False]
    assert [len(fit.history) for fit in fits] == [3, 1, 3]
    assert fits[1].history[0]['train_loss'] is None and fits[2].history[2]['train_loss'] < fits[2].history[0]['train_loss']
    assert fits[0].history[0]['seconds'] == fits[1].history[0]['seconds']
    all_broken = train.fit_together(p, [broken, broken], [0, 1])
    assert [(fit.diverged, len(fit.history)) for fit in all_broken] == [(True, 1)] * 2


def test_seeds_of_an_arm_are_a_team_on_an_accelerator_and_by_themselves_on_a_cpu():
    other = dataclasses.replace(BASE, train=TrainConfig(epochs=1))
    todo = cells(BASE, (0, 1)) + cells(other, (0,), 'tune') + cells(BASE, (2,))
    assert [[cell.seed for cell in team] for team in trainings.teams(todo, 'gpu', sweep.How(1))] == [[0, 1, 2], [0]]
    assert trainings.teams(todo, 'cpu', sweep.How(1)) == [[cell] for cell in todo]


def test_a_team_that_memory_cannot_hold_runs_in_parts(monkeypatch):
    sizes, fit = [], train.fit_together
    monkeypatch.setattr(train, 'fit_together', lambda p, data, seeds, *more: sizes.append(len(seeds)) or fit(p, data, seeds, *more))
    monkeypatch.setattr(train, 'at_once', lambda p, data: 2)
    heard = []
    rows = list(trainings.run_team('e', cells(BASE), noise(), heard.append))
    assert sizes == [2, 1] and [row[0]['seed'] for row in rows] == list(SEEDS) and {row[0]['status'] for row in rows} == {'ok'}
    assert heard == sorted(heard) and heard[-1] == 1


def test_what_a_part_of_a_team_finished_is_kept_before_the_next_begins(monkeypatch, tmp_path):
    book, fit, recorded = Ledger(tmp_path), train.fit_together, []
    book.create({})
    monkeypatch.setattr(train, 'at_once', lambda p, data: 1)
    monkeypatch.setattr(train, 'fit_together', lambda *args: recorded.append(len(book.results())) or fit(*args))
    worker._claim_and_run(book, lambda team, heard, doom: trainings.run_team('e', team, noise(), heard), cells(BASE), {}, News(), Asked())
    assert recorded == [0, 1, 2] and len(book.results()) == 3


def test_weights_that_are_not_finite_at_the_end_of_an_epoch_are_not_watched(monkeypatch):
    p, arrays, _ = posed()
    scores = {'loss': float('nan'), 'accuracy': 0.1}
    monkeypatch.setattr(train, 'score', lambda *args: scores)
    fit = train.fit(p, arrays, 0, watch=lambda *args: pytest.fail('watched'))
    assert fit.diverged


def test_a_team_that_fails_is_tried_in_parts_and_only_what_fails_alone_has_failed(monkeypatch):
    fit = train.fit_together

    def failing(p, data, seeds, *more):
        if 0 in seeds:
            raise RuntimeError('RESOURCE_EXHAUSTED: out of memory')
        return fit(p, data, seeds, *more)

    monkeypatch.setattr(train, 'fit_together', failing)
    rows = [row for row, _, _ in trainings.run_team('e', cells(BASE), noise())]
    assert [(row['seed'], row['status']) for row in rows] == [(3, 'ok'), (0, 'failed'), (5, 'ok')]
    assert rows[1]['error'] == 'RuntimeError: RESOURCE_EXHAUSTED: out of memory'


def test_a_cell_that_lacked_memory_says_how_much_it_takes_and_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(train, 'fit_together', lambda *args: (_ for _ in ()).throw(MemoryError()))
    ((row, _, _),) = trainings.run_team('e', [dataclasses.replace(cells(BASE)[0], need=3_200_000_000)], noise())
    assert row['error'] == 'MemoryError (it takes 3.2 GB at least)' and 'in run_team' in row['traceback']
    given_up = [row for row, _, _ in trainings.run_team('e', cells(BASE), noise(), doom='two worker processes died at it')]
    assert [(row['status'], row['error']) for row in given_up] == [('failed', 'two worker processes died at it')] * 3


def test_a_cell_that_is_given_up_leaves_the_others_of_its_team_alone(tmp_path):
    book, team = Ledger(tmp_path), cells(BASE)
    book.create({})
    book.died([team[1].name], 'SIGSEGV')
    book.died([team[1].name], 'SIGSEGV')
    run = functools.partial(trainings.run_team, 'e', dataset=noise())
    worker._claim_and_run(book, lambda team, heard, doom: run(team, on_progress=heard, doom=doom), team, {}, News(), Asked())
    assert [book.results()[cell.name]['status'] for cell in team] == ['ok', 'failed', 'ok']


@pytest.mark.parametrize('relax_epoch', [None, 1])
def test_memory_is_asked_of_the_compiler(monkeypatch, relax_epoch):
    """Of the network that the training ends with too."""
    p, arrays, _ = posed(dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, relax_epoch=relax_epoch)))
    ends_as = dataclasses.replace(p.config, model=p.config.final_model)
    state = jax.eval_shape(engine.programs(dataclasses.replace(p, config=ends_as).program).init, np.uint32(0))
    its_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    for memory, least in ((10**9, 2), (1, 1)):
        monkeypatch.setattr(train.hosts, 'device_memory', lambda memory=memory: memory)
        assert least <= train.at_once(p, arrays) <= max(1, memory // its_bytes)


def test_what_another_process_holds_is_left_to_it_and_the_rest_of_the_team_runs(tmp_path):
    book = Ledger(tmp_path)
    book.create({})

    team, news = cells(BASE), News()
    holder = start(book, f"""
        with BOOK.claim({team[1].name!r}) as mine:
            print(mine, flush=True)
            sys.stdin.readline()
    """)  # fmt: skip
    with holder:
        assert holder.stdout.readline() == 'True\n'
        left = worker._claim_and_run(book, lambda team, heard, doom: trainings.run_team('e', team, noise(), heard), team, {}, news, Asked())
        holder.stdin.write('\n')
    assert left == [team[1]] and sorted(book.results()) == ['arm-seed3', 'arm-seed5']
    assert {name for kind, name, _ in news if kind == 'done'} == {'arm-seed3', 'arm-seed5'}
