"""Sample efficiency: the signal tasks are what their formulas say, learners are plain SGD, counts and exponents cover the truth."""

import dataclasses
import json
import math
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import errors, learners, needed
from cnn_research.data import signals
from cnn_research.needed import Needed, Point
from cnn_research.report.needed import Mark, examples_needed
from experiments import signal_searches as searches

KEY = jax.random.key(0)
N, PATCHES, DIMENSION, SIGMA = 20_000, 6, 5, 0.3


def drawn(task, key=KEY, n=N):
    w = signals.direction(jax.random.key(7), DIMENSION)
    return np.asarray(w), jax.tree.map(np.asarray, task(key, w, n, PATCHES, SIGMA))


@pytest.mark.parametrize('task', [signals.dynamic_signal, signals.static_signal])
def test_what_is_left_without_the_signal_is_normal_noise(task):
    w, (x, y, patch) = drawn(task)
    noise = x.copy()
    noise[np.arange(N), patch] -= y[:, None] * w
    error = SIGMA / math.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error and abs(noise.std() / SIGMA - 1) < 4 / math.sqrt(2 * noise.size)
    covariance = np.cov(noise.reshape(N, -1).T) / SIGMA**2 - np.eye(PATCHES * DIMENSION)
    assert np.abs(covariance).max() < 6 / math.sqrt(N)  # of 900 entries the largest
    assert abs(np.mean((noise / SIGMA) ** 4) - 3) < 0.05
    assert abs(y.mean()) < 4 / math.sqrt(N) and set(y) == {-1, 1}
    assert abs(np.corrcoef(y, patch)[0, 1]) < 4 / math.sqrt(N) if patch.any() else (patch == 0).all()


def test_the_signal_is_a_unit_vector_in_any_direction_and_its_patch_is_drawn_evenly():
    w, (_, _, patch) = drawn(signals.dynamic_signal)
    assert np.linalg.norm(w) == pytest.approx(1, abs=1e-6)
    counts = np.bincount(patch, minlength=PATCHES)
    assert np.abs(counts - N / PATCHES).max() < 4.5 * math.sqrt(N / PATCHES)
    many = np.stack([signals.direction(jax.random.key(i), 3) for i in range(500)])
    assert np.abs(many.mean(axis=0)).max() < 4 / math.sqrt(3 * 500)


def test_patches_may_change_places_and_examples_may_be_turned_but_not_the_static_ones():
    """x of a patch at place p is noise + y w wherever p is, so moving patches moves the draw; a rotation of w rotates the signal alone."""
    w, (x, y, patch) = drawn(signals.dynamic_signal, n=64)
    turned, (x_turned, y_turned, _) = -w, drawn(signals.dynamic_signal, n=64)[1]
    again = jax.tree.map(np.asarray, signals.dynamic_signal(KEY, jnp.asarray(turned), 64, PATCHES, SIGMA))
    difference = again.x - x
    assert (again.y == y).all() and (again.patch == patch).all() and (x_turned == x).all() and (y_turned == y).all()
    expected = np.zeros_like(x)
    expected[np.arange(64), patch] = -2 * y[:, None] * w
    np.testing.assert_allclose(difference, expected, atol=1e-6)
    static = drawn(signals.static_signal, n=2000)[1]
    means = np.mean(static.x * static.y[:, None, None], axis=0) @ w
    assert means[0] > 0.95 and np.abs(means[1:]).max() < 0.05  # a permutation of patches would be seen


def reference(learning, weights, x, threshold):
    """f in numpy, unit by unit."""
    total = np.zeros(len(x))
    for p in range(learning.patches):
        if learning.model == 'dense':
            u = np.einsum('npi,pi->n', x, weights[p])
        else:
            u = x[:, p] @ (weights[p] if learning.model == 'local' else weights)
        total += np.sign(u) * np.maximum(np.abs(u) - threshold, 0)
    return total


@pytest.mark.parametrize('model', searches.MODELS)
def test_the_output_is_the_sum_of_soft_thresholds(model):
    learning = learners.Learning('dynamic_signal', model, PATCHES, DIMENSION)
    random = np.random.default_rng(0)
    weights, x = random.normal(size=learning.shape), random.normal(size=(30, PATCHES, DIMENSION))
    found = learners.output(learning, jnp.asarray(weights), jnp.asarray(x), 0.7)
    np.testing.assert_allclose(found, reference(learning, weights, x, 0.7), rtol=1e-5, atol=1e-5)
    assert np.prod(learning.shape) == {'dense': 180, 'local': 30, 'shared': 5}[model]


@pytest.mark.parametrize('model', searches.MODELS)
def test_settings_together_are_each_alone(model, monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 400)
    jax.clear_caches()
    learning = learners.Learning('dynamic_signal', model, 4, 5)
    tried = [(0.5, 1.0), (1.0, 3.0), (2.0, 10.0)]
    together = learners.evaluated(learning, 100, 3, 0.2, tried)
    alone = [learners.evaluated(learning, 100, 3, 0.2, [setting])[0] for setting in tried]
    np.testing.assert_allclose(together, alone, atol=0.004)
    assert together[0] > 0.85
    jax.clear_caches()


def test_pools_hold_what_is_asked_for_and_are_few():
    pools = [learners.pool_for(n) for n in range(1, 1000)]
    assert all(n <= pool < 2 * n + 2 for n, pool in enumerate(pools, 1)) and len(set(pools)) == 10


def test_a_filter_that_starts_the_wrong_way_round_comes_back():
    """With all of the threshold from the start it would fall silent: one seed in ten, at any number of examples."""
    learning = learners.Learning('dynamic_signal', 'shared', 8, 4)
    assert min(learners.evaluated(learning, 256, seed, 0.2, [(2.0, 1.0)])[0] for seed in range(24)) > 0.9


def test_training_follows_the_gradient_downhill_as_numpy_does(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 3)
    monkeypatch.setattr(learners, 'TEST', 500)
    learning = learners.Learning('static_signal', 'local', 3, 4)
    jax.clear_caches()
    found = learners.evaluated(learning, 8, 5, 0.2, [(0.3, 2.0)])[0]
    direction, pool, tested, start, order = (jax.random.fold_in(jax.random.key(np.uint32(5)), purpose) for purpose in range(5))
    w = signals.direction(direction, 4)
    examples, fresh = (jax.tree.map(np.asarray, signals.static_signal(key, w, n, 3, 0.2)) for key, n in ((pool, 8), (tested, 500)))
    weights = 3 / 2 * np.asarray(jax.random.normal(start, (3, 4)))
    for i in range(3):
        batch = np.asarray(jax.random.randint(jax.random.fold_in(order, i), (learners.BATCH,), 0, np.int32(8)))
        x, y = examples.x[batch], examples.y[batch]
        risen = 0.3 * min(1, 2 * i / 3)
        wrong = -y / (1 + np.exp(y * reference(learning, weights, x, risen)))
        open_ = np.abs(np.einsum('npi,pi->np', x, weights)) > risen
        gradient = np.einsum('n,np,npi->pi', wrong, open_, x) / len(batch)
        weights = weights - 2.0 * 0.5 * (1 + math.cos(math.pi * i / 3)) * gradient
    assert found == pytest.approx(np.mean(fresh.y * reference(learning, weights, fresh.x, 0.3) > 0), abs=0.003)
    jax.clear_caches()


def point(n, scores):
    """Trainings in one setting."""
    return Point(n, np.array(scores)[:, None], np.zeros((1, 1)))


def learner(true, random, spread=0.01, seeds=10, settings_=4):
    """Trainings that pass 95 % at `true` examples, as a power of n, in the best of some settings; which that is has to be found."""
    worse = 0.004 * np.arange(settings_)

    def trained(n):
        score = 1 - 0.05 * (n / true) ** -0.6
        scores, tuned = (np.clip(score - worse + spread * random.normal(size=(count, settings_)), 0, 1) for count in (seeds, 5))
        return Point(n, scores, tuned)

    return trained


def test_the_rising_curve_is_that_of_scipy():
    from scipy.optimize import isotonic_regression

    random = np.random.default_rng(4)
    for _ in range(200):
        size = int(random.integers(2, 9))
        means, weights, at = random.random(size), random.integers(1, 9, size).astype(float), np.sort(random.random(size))
        rising = isotonic_regression(means, weights=weights).x
        found = float(needed._crossings(means[None], weights, at, 0.6)[0])
        if rising[-1] < 0.6:
            assert math.isinf(found)
        else:
            first = int(np.argmax(rising >= 0.6 - 1e-12))
            assert found == pytest.approx(np.interp(0.6, rising[first - 1 : first + 1], at[first - 1 : first + 1]) if first else at[0])


def test_a_search_brackets_the_target_and_asks_every_n_once():
    asked = []

    def scores(n):
        asked.append(n)
        return point(n, [float(n >= 1000)] * 2)

    points = needed.search(scores, 0.95, 64, 10**6)
    ns = [point.n for point in points]
    assert len(set(asked)) == len(asked) and ns == sorted(asked) and {512, 1024, 2048} <= set(ns) and max(ns) == 2048
    assert len([n for n in ns if 512 < n < 1024]) == 3
    assert [p.n for p in needed.search(lambda n: point(n, [1.0, 1.0]), 0.95, 64, 1000)] == [4, 8, 16, 32, 64]
    assert max(p.n for p in needed.search(lambda n: point(n, [0.0, 0.0]), 0.95, 64, 1000)) == 1000
    with pytest.raises(errors.InputError, match='in this order'):
        needed.search(scores, 0.95, 64, 32)


@pytest.mark.parametrize('spread', [0.004, 0.015, 0.03])
def test_the_interval_of_the_count_covers_the_truth_as_often_as_it_says(spread):
    random, held = np.random.default_rng(0), []
    for _ in range(400):
        true = float(np.exp(random.uniform(6, 9)))
        found = needed.needed(needed.search(learner(true, random, spread), 0.95, 64, 10**6), 0.95)
        held.append(found.low <= true <= found.high)
    assert np.mean(held) > 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / len(held))


def test_the_interval_of_the_exponent_covers_the_truth_as_often_as_it_says():
    random, held, widths = np.random.default_rng(1), [], []
    sizes = (8, 16, 24, 32)
    for _ in range(200):
        counts = [needed.needed(needed.search(learner(20 * s**1.5, random), 0.95, 64, 10**6), 0.95) for s in sizes]
        e = needed.exponent(sizes, counts)
        held.append(e.low <= 1.5 <= e.high)
        widths.append(e.high - e.low)
    assert np.mean(held) > 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / len(held))
    assert np.mean(widths) < 0.6  # and says something


def count(n, most=10**6, spread=0.1, random=None):
    logs = math.log(n) + spread * (random or np.random.default_rng(0)).normal(size=300)
    resamples = np.where(logs > math.log(most), np.inf, np.exp(logs))
    value = n if n <= most else math.inf
    return Needed(value, min(n * math.exp(-2 * spread), most), n * math.exp(2 * spread), 4, most, 10, resamples)


def test_censored_counts_bend_no_exponent():
    sizes, random = (4, 8, 16, 32, 64), np.random.default_rng(2)
    counts = [count(10 * s**2, most=5000, random=random) for s in sizes]
    assert [c.censored for c in counts] == [False, False, False, True, True]
    e = needed.exponent(sizes, counts)
    assert e.censored == 2 and e.low < 2 < e.high and abs(e.slope - 2) < 0.2
    as_if_reached = [count(min(10 * s**2, 5000), most=10**6, random=random) for s in sizes]
    assert needed.exponent(sizes, as_if_reached).high < 2


def test_a_count_below_the_first_point_is_a_bound_and_bends_no_exponent():
    found = needed.needed([point(4, (0.99, 0.98)), point(8, (0.99, 0.99))], 0.95)
    assert (found.n, found.low, found.censored) == (4, 0.0, True) and searches.shown(found) == 'at most 4'
    sizes, random = (4, 8, 16, 32), np.random.default_rng(5)
    counts = [dataclasses.replace(found, resamples=np.full(300, 4.0))] + [count(s**2 / 8, random=random) for s in sizes[1:]]
    e = needed.exponent(sizes, counts)
    assert e.censored == 1 and abs(e.slope - 2) < 0.15


def test_what_the_choice_of_a_setting_leaves_to_chance_is_in_the_interval():
    """Settings that few noisy trainings hardly tell apart: whichever they might have chosen, its scores are drawn."""
    random = np.random.default_rng(6)
    scores, tuned = np.array([[0.95, 0.97]] * 10), np.array([[0.95, 0.951], [0.97, 0.968], [0.96, 0.962]])
    drawn = Point(100, scores, tuned).resampled(random, 1000)
    assert set(np.round(drawn, 6)) == {0.95, 0.97} and Point(100, scores, tuned).best == int(np.argmax(tuned.mean(axis=0)))


def test_what_was_not_reached_stays_open():
    points = [point(n, (0.6 + 0.001 * i, 0.61)) for i, n in enumerate((64, 128, 256))]
    found = needed.needed(points, 0.95)
    assert found.censored and found.n == found.high == math.inf and found.most == 256
    assert searches.shown(found) == 'more than 256' and found.low == pytest.approx(256)
    nearly = needed.needed([point(64, (0.5,) * 4), point(128, (0.90, 0.99, 0.97, 0.95))], 0.95)
    assert math.isfinite(nearly.n) and nearly.high == math.inf and 'open' in searches.shown(nearly)
    with pytest.raises(ValueError, match='three sizes'):
        needed.exponent((1, 2, 3), [found] * 3)
    for bad in ([point(64, (0.5, 0.6))], [point(64, (0.5,)), point(128, (0.9,))]):
        with pytest.raises(ValueError, match='two points'):
            needed.needed(bad, 0.95)


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.lists(st.floats(0, 1), min_size=3, max_size=3)),
        min_size=2,
        max_size=8,
        unique_by=lambda p: p[0],
    )
)
@settings(max_examples=50, deadline=None)
def test_a_count_lies_among_the_points_or_beyond_them(points):
    points = [point(n, scores) for n, scores in points]
    found = needed.needed(points, 0.8)
    ns = sorted(p.n for p in points)
    assert found.most == ns[-1] and (found.censored or ns[0] * 0.999 <= found.n <= ns[-1] * 1.001)
    assert found.low <= found.n * 1.001 and found.high >= found.n * 0.999


def test_the_claims_of_theory_are_those_of_the_paper():
    sizes = {'shared': 24, 'local': (128, 384), 'dense': 2048}  # k = 16, d = 8
    found = {model: [claim(16, 8) for claim in claims.values()] for model, claims in searches.CLAIMS.items()}
    assert found == {'shared': [sizes['shared']], 'local': list(sizes['local']), 'dense': [sizes['dense']]}


def test_tables_show_counts_ratios_and_exponents_beside_the_claims():
    points = {'patches': ((8, 16), (16, 16), (32, 16)), 'dimension': ((16, 8), (16, 16), (16, 32))}
    power = {'shared': lambda k, d: 10 * (k + d), 'local': lambda k, d: 5 * k * d, 'dense': lambda k, d: k * k * d}
    every = sorted({p for line in points.values() for p in line})
    examples = {(m, *p): count(power[m](*p), most=12_000) for m in searches.MODELS for p in every}
    columns, lines = searches.needed_table(examples, every)
    by_point = {line[:2]: dict(zip(columns, line)) for line in lines}
    assert by_point['16', '16']['dense / local'] == f'{4096 / 1280:.1f}' and by_point['16', '16']['local / shared'] == '4.0'
    assert by_point['32', '16']['dense'] == 'more than 12,000' and by_point['32', '16']['dense / local'].startswith('above')
    columns, lines = searches.exponents(examples, points, claimed=True)
    found = {line[:2]: dict(zip(columns, line)) for line in lines}
    assert float(found['local', 'patches']['exponent']) == pytest.approx(1, abs=0.02)
    assert found['local', 'patches']['claims'].startswith('k d: 1.00')
    assert found['dense', 'patches']['censored'] == '1' and float(found['dense', 'patches']['exponent']) == pytest.approx(2, abs=0.05)
    assert re.fullmatch(r'[\d.]+ to [\d.]+', found['shared', 'dimension']['95 %'])
    assert set(searches.marks(examples, points)) == {'patches (of dimension 16)', 'dimension (of 16 patches)'}


def test_a_search_becomes_a_row_that_says_how_it_was_made(monkeypatch):
    monkeypatch.setattr(learners, 'STEPS', 100)
    jax.clear_caches()
    cell = searches.Cell(searches.Search('dynamic_signal', 'shared', 4, 5, 0.2, 0.8, 2, 256))
    heard: list[float] = []
    ((row, history, params),) = searches.searched('sample_efficiency', cell, heard.append)
    row = json.loads(json.dumps(row))
    jax.clear_caches()
    assert (history, params) == ([], {}) and row['status'] == 'ok' and row['config'] == cell.config.to_json()
    assert {tuple(p['setting']) for p in row['points']} <= set(searches.SETTINGS)
    assert {np.shape(p['accuracies']) for p in row['points']} == {(2, 16)} and np.shape(row['points'][0]['tuning_accuracies']) == (5, 16)
    assert heard == sorted(heard) and heard[0] >= 0 and heard[-1] < 1
    assert searches.counts([row])['shared', 4, 5].most == row['points'][-1]['n']
    assert cell.name == 'dynamic_signal-shared-patches4-dimension5'


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (('--dataset=dynamic',), "unknown dataset 'dynamic'; known: dynamic_signal, static_signal"),
        (('--seeds=1',), 'seeds must be a whole number of at least 2, got 1'),
        (('--most=2000000',), 'most must be at most 1048576'),
        (('--most=100',), 'most must be a whole number of at least 128'),
        (('--sigma=0',), 'sigma must be above 0'),
        (('--target=1',), 'target between 0.5 and 1'),
        (('--workers=0',), 'workers must be'),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(tmp_path, flags, message):
    command = [sys.executable, '-m', 'experiments.sample_efficiency', f'--workdir={tmp_path / "w"}', *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1
    assert not (tmp_path / 'w').exists()


def test_the_command_searches_writes_and_resumes(tmp_path):
    small = 'from experiments import sample_efficiency as s; s.QUICK = {"patches": ((2, 3),), "dimension": ((2, 3),)}; s.main()'
    command = [sys.executable, '-c', small, '--quick', '--most=128', '--seeds=2', f'--workdir={tmp_path}']
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {'needed.csv', 'exponents.csv', 'results.jsonl', 'figures'} <= {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / 'figures' / 'examples_needed.svg').read_text().startswith('<svg')
    rows = (tmp_path / 'results.jsonl').read_bytes()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0 and again.stdout == done.stdout and (tmp_path / 'results.jsonl').read_bytes() == rows
    other = subprocess.run([*command, '--sigma=0.3'], capture_output=True, text=True)
    assert other.returncode == 2 and 'sigma was 0.2, now 0.3' in other.stderr


def test_a_search_that_fails_is_a_row_and_the_others_go_on(monkeypatch, capsys):
    monkeypatch.setattr(learners, 'evaluated', lambda *args: 1 / 0)
    cell = searches.Cell(searches.Search('dynamic_signal', 'shared', 4, 5, 0.2, 0.8, 2, 256))
    ((row, _, _),) = searches.searched('sample_efficiency', cell, lambda share: None)
    assert row['status'] == 'failed' and row['error'] == 'ZeroDivisionError: division by zero' and searches.counts([row]) == {}


def test_no_two_trainings_share_a_seed():
    names = [searches.Cell(searches.Search('dynamic_signal', m, k, 8, 0.2, 0.9, 2, 256)).name for m in searches.MODELS for k in (8, 16)]
    seeds = [searches._seed(name, what, n, i) for name in names for what in ('score', 'tune') for n in (64, 128) for i in range(20)]
    assert len(set(seeds)) == len(seeds) and max(seeds) < 2**32


def test_bars_of_open_intervals_reach_the_end_of_the_axis_and_bounds_are_triangles():
    marks = {
        'shared': [Mark(8, 100, 80, 125), Mark(16, 200, 150, math.inf)],
        'dense': [Mark(8, 4, 0, 4), Mark(16, math.inf, 5000, math.inf)],
    }
    figure = examples_needed('title', 'subtitle', {'patches': marks, 'dimension': {'shared': [Mark(8, 100, 80, 20_000)]}})
    axes = figure.axes[0]
    assert axes.get_ylim() == figure.axes[1].get_ylim() and axes.get_ylim()[1] > 20_000
    bars = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [16, 16]]
    assert [list(bar) for bar in bars] == [[150, axes.get_ylim()[1]]]
    drawn = {(line.get_marker(), tuple(line.get_ydata())) for line in axes.lines if len(line.get_xdata()) == 1}
    assert ('^', (5000,)) in drawn and ('v', (4,)) in drawn
