"""Trainings on eight devices are those on one, along every axis of the mesh; layouts; scores that count every example once."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_keeping import SCHEMES, keeper
from test_train import BASE, PLACED, noise, posed

from cnn_research import engine, errors, feeds, mesh, problem, train
from cnn_research.config import Config, DataConfig, ModelConfig, TrainConfig
from cnn_research.layout import Layout, Wish
from cnn_research.problem import Examples

pytestmark = pytest.mark.xdist_group('mesh')  # they share trainings
EIGHT = tuple(range(8))
# One stage for each scheme. Without maxima: on black background they are ties, which rounding would break.
STAGES = len(SCHEMES)
OF_ALL = ModelConfig((2,) * STAGES, (3,) * STAGES, (1,) * STAGES, (1,) * STAGES, SCHEMES, head='gap')
DENSE = ModelConfig((8, 8, 8), (3, 3, 3), (1, 1, 1), (1, 1, 1), ('dense',) * 3, head='gap')
AUGMENTED = TrainConfig(epochs=4, batch_size=16, shift=1, flip=True)
DRAWN = dataclasses.replace(PLACED, train_size=80, unseen_positions=None)  # five steps an epoch; every seed has its own draw


def wide(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64) if a.dtype == np.float32 else np.asarray(a), tree)


def trained(p, seeds, on=None):
    """The states of the seeds after 20 steps in float64, all from the same starts, trained on a mesh or one by one."""
    data = [wide(problem.arrays(p, noise(), seed)) for seed in seeds]
    starts = [wide(engine.programs(p.program).init(np.uint32(seed))) for seed in seeds]
    several = on is not None and len(seeds) > 1
    if not several and len(seeds) > 1:
        return [trained(p, [seed])[0] for seed in seeds]
    state = mesh.place(on, mesh.stack(starts), several)
    compiled, resident = train._programs(p, len(seeds), on), feeds.resident(data, on)
    seeds_, total = mesh.stack([np.uint32(seed) for seed in seeds]), wide(train._nothing(len(seeds)))
    for epoch in range(4):
        order = compiled.order(p.setting, seeds_, np.int32(epoch))
        for first, count in ((0, 2), (2, 3)):
            state, total = compiled.chunk(p.setting, state, total, resident, seeds_, order, np.int32(first), np.int32(count))
    assert set(np.ravel(state.step)) == {20} and (on is None or mesh.of(state) == on)
    return [mesh.fetch(one) for one in mesh.apart(state, len(seeds))]


@functools.cache
def alone(norm):
    """A problem of all schemes, and the states of eight seeds trained one by one on one device."""
    p = problem.make(Config(dataclasses.replace(OF_ALL, norm=norm), DRAWN, AUGMENTED), noise())
    return p, trained(p, EIGHT)


def assert_equal(states, others):
    for got, wanted in zip(jax.tree.leaves(states), jax.tree.leaves(others), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize('norm', ['none', 'batch'])
def test_twenty_steps_of_batches_on_eight_devices_are_those_on_one(norm, x64):
    p, states = alone(norm)
    assert_equal(trained(p, [3], mesh.make(Layout(data=8))), states[3:4])


@pytest.mark.slow
@pytest.mark.parametrize('layout', [Layout(seed=8), Layout(seed=2, data=2, model=2)])
def test_eight_seeds_side_by_side_are_eight_trainings(layout, x64, monkeypatch):
    monkeypatch.setattr(mesh, '_LARGE', 64)
    p, states = alone('batch')
    assert_equal(trained(p, EIGHT, mesh.make(layout)), states)


@pytest.mark.slow
def test_dense_layers_split_over_eight_devices_are_whole_ones(x64, monkeypatch):
    monkeypatch.setattr(mesh, '_LARGE', 1024)
    p = problem.make(Config(DENSE, DRAWN, AUGMENTED), noise())
    on = mesh.make(Layout(model=8))
    state = mesh.programs(p.program, on, several=False).init(np.uint32(0))
    for part in (state.params, state.opt_state[0].mu):  # of all layers and of what Adam keeps of them
        for i in range(3):
            kernel = part[f'stage_{i}']['kernel']
            assert 8 * kernel.addressable_shards[0].data.size == kernel.size
    assert_equal(trained(p, [3], on), trained(p, [3]))


def test_seeds_side_by_side_send_each_other_nothing():
    p = problem.make(BASE, noise())
    on, seeds = mesh.make(Layout(seed=8)), np.arange(8, dtype=np.uint32)
    compiled, resident = train._programs(p, 8, on), feeds.resident([problem.arrays(p, noise(), seed) for seed in EIGHT], on)
    state, order = compiled.init(seeds), compiled.order(p.setting, seeds, np.int32(0))
    arguments = (p.setting, state, train._nothing(8), resident, seeds, order, np.int32(0), np.int32(1))
    text = compiled.chunk.lower(*arguments).compile().as_text()
    assert not re.search('all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter', text)
    assert 'all-reduce' in _text_of_batches(p)  # it would be seen


@pytest.mark.parametrize('scheme', ['dense', 'local'])
def test_split_kernels_are_never_gathered(scheme, monkeypatch):
    monkeypatch.setattr(mesh, '_LARGE', 4096)
    of_both = ModelConfig((4, 4), (3, 3), (1, 1), (1, 1), (scheme,) * 2)
    p = problem.make(Config(of_both, DataConfig('noise', canvas=(16, 16), train_positions='any'), TrainConfig(batch_size=16)), noise())
    on, seed = mesh.make(Layout(model=8)), np.uint32(0)
    compiled, arrays = train._programs(p, 1, on), problem.arrays(p, noise(), 0)
    state, order = compiled.init(seed), compiled.order(p.setting, seed, np.int32(0))
    chunk = compiled.chunk.lower(
        p.setting, state, engine.NOTHING, feeds.resident([arrays], on), seed, order, np.int32(0), np.int32(1)
    ).compile()
    batch, weights = mesh.rows(on, (Examples(*(a[:16] for a in arrays.test)), np.ones(16, np.int32)))
    evaluate = compiled.evaluate.lower(state.params, state.batch_stats, arrays.scale, batch, weights).compile()
    kernel = state.params['stage_1']['kernel'].size
    for program in (chunk, evaluate):
        gathered = re.findall(r'= \(?\w+\[([\d,]*)\][^=]*? all-gather\(', program.as_text())
        assert all(np.prod([int(side) for side in shape.split(',')]) < kernel / 2 for shape in gathered), gathered


def test_some_devices_of_many_may_be_left_out():
    on = mesh.make(Layout(seed=5))
    assert dict(on.shape) == {'seed': 5, 'data': 1, 'model': 1} and list(on.devices.flat) == jax.devices()[:5]


def _text_of_batches(p):
    on, seed = mesh.make(Layout(data=8)), np.uint32(0)
    compiled, resident = train._programs(p, 1, on), feeds.resident([problem.arrays(p, noise(), 0)], on)
    state, order = compiled.init(seed), compiled.order(p.setting, seed, np.int32(0))
    return compiled.chunk.lower(p.setting, state, engine.NOTHING, resident, seed, order, np.int32(0), np.int32(1)).compile().as_text()


@pytest.mark.parametrize('number', [1, 7, 255, 256, 257, 300])
@pytest.mark.parametrize('sizes', [Layout(data=8), Layout(seed=3, data=2)])
def test_every_example_counts_once_whatever_the_devices(number, sizes):
    p, arrays, programs = posed()
    state = programs.init(np.uint32(0))
    examples = Examples(*(None if a is None else a[:number] for a in arrays.test))
    alone, shared = (train.score(p, s, arrays.scale, examples) for s in (state, mesh.place(mesh.make(sizes), state)))
    assert alone['accuracy'] == shared['accuracy'] and alone['loss'] == pytest.approx(shared['loss'], rel=1e-6)


@pytest.mark.slow
def test_a_training_goes_on_on_another_number_of_devices(tmp_path):
    """Saved on eight devices after every chunk, and gone on from the middle on one, on four, and on eight in another order."""
    # Not by Adam, which makes a step of a gradient that is nothing but rounding.
    c = dataclasses.replace(BASE, train=TrainConfig(2, 16, optimizer='sgd', learning_rate=0.05, relax_epoch=1, relax_to='dense'))
    p, seeds = problem.make(c, noise()), [0, 1, 2, 3]
    data = [problem.arrays(p, noise(), seed) for seed in seeds]

    def fits(on=None, keeps=None):
        return train.fit_together(p, data, seeds, keeper=keeps, on=on)

    whole = fits()
    for first_epochs in (0.5, 1.5):
        keeps, _ = keeper(tmp_path / str(first_epochs), c, cells=list('abcd'))

        def passed(progress, keeps=keeps, until=first_epochs):
            if progress.epoch + progress.done / 6 >= until:
                keeps.save(progress)
                keeps.finish()
                raise InterruptedError

        keeps.passed = passed
        with pytest.raises(InterruptedError), keeps:
            fits(mesh.make(Layout(seed=4, data=2)), keeps)
        for sizes in (None, Layout(data=4, model=2) if first_epochs < 1 else Layout(seed=2, data=2)):
            again, told = keeper(tmp_path / str(first_epochs), c, cells=list('abcd'))
            with again:
                found = fits(sizes and mesh.make(sizes), again)
            assert not told  # of a file that is damaged, or made otherwise
            for one, other in zip(found, whole, strict=True):
                assert one.history[-1]['train_loss'] == pytest.approx(other.history[-1]['train_loss'], rel=1e-5)
                for a, b in zip(jax.tree.leaves(one.state.params), jax.tree.leaves(other.state.params), strict=True):
                    np.testing.assert_allclose(mesh.fetch(a), b, atol=1e-5)


@given(st.integers(1, 64), st.integers(1, 40), st.integers(1, 300), st.none() | st.integers(1, 16), st.integers(1, 8), st.booleans())
def test_layouts_fit(devices, seeds, batch, data, model, every):
    try:
        sizes = Wish(data, model, every).on(devices, seeds, batch)
    except errors.InputError:
        full = [n for n in range(1, devices + 1) if devices % (n * model) == 0 and batch % n == 0 and seeds % (devices // (n * model)) == 0]
        assert (data or 1) * model > devices or batch % (data or 1) or (every and not {data or n for n in full} & {*full})
        return
    assert not every or sizes.seed * sizes.data * sizes.model == devices
    assert sizes.seed * sizes.data * sizes.model <= devices and sizes.model == model and data in (None, sizes.data)
    assert seeds % sizes.seed == 0 and batch % sizes.data == 0


def test_seeds_come_before_batches_and_what_is_left_serves_batches():
    assert [Wish().on(8, seeds, 128) for seeds in (8, 4, 1)] == [Layout(8), Layout(4, 2), Layout(1, 8)]
    assert Wish().on(8, 1, 100) == Layout(1, 5) and Wish(2, 2).on(8, 16, 128) == Layout(2, 2, 2)
    with pytest.raises(errors.InputError, match='--data_parallel=4 times --model_parallel=4 takes 16 devices, here are 8'):
        Wish(4, 4).on(8, 1, 128)
    every = Wish(every=True)
    assert [every.on(8, seeds, 100) for seeds in (2, 4)] == [Layout(2, 4), Layout(4, 2)] and [
        every.part(8, 7, each, 100) for each in (1, 2, 3)
    ] == [4, 4, 6]
    with pytest.raises(errors.InputError, match='all 8 devices of the processes must take part, and batches of 100 images cannot be'):
        every.on(8, 1, 100)
    with pytest.raises(errors.InputError, match='a batch of 100 images cannot be dealt out evenly to 8 devices'):
        Wish(8).on(8, 1, 100)


@given(st.integers(1, 16), st.integers(1, 40), st.integers(1, 5), st.none() | st.integers(1, 16), st.integers(1, 4))
def test_parts_of_a_team_fill_their_places(devices, seeds, each, data, model):
    wish, batch = Wish(data, model), 16 * (data or 1)
    if (data or 1) * model > devices:
        with pytest.raises(errors.InputError):
            wish.part(devices, seeds, each, batch)
        return
    part, places = wish.part(devices, seeds, each, batch), max(1, devices // ((data or 1) * model))
    most = min(seeds, places * each)
    assert 1 <= part <= most and (part <= places or part % places == 0) and part > most - places


@given(st.integers(1, 16), st.integers(1, 40), st.integers(1, 5), st.integers(1, 300))
def test_no_place_gets_more_seeds_than_it_holds_where_none_may_stay_idle(devices, seeds, each, batch):
    wish = Wish(every=True)
    try:
        part = wish.part(devices, seeds, each, batch)
    except errors.InputError:
        with pytest.raises(errors.InputError):
            wish.on(devices, 1, batch)
        return
    assert part == 1 or part <= wish.on(devices, part, batch).seed * each
