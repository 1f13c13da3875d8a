"""Counts and exponents cover the truth as often as they say, and what was not reached stays open."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research import errors, needed
from cnn_research.needed import Needed, Point


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
            errors_ = -np.log(np.maximum(1 - rising, 1e-4))  # between points they are taken for a power of n
            beside = slice(first - 1, first + 1)
            assert found == pytest.approx(np.interp(-math.log(0.4), errors_[beside], at[beside]) if first else at[0])


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
    assert (found.n, found.low, found.censored) == (4, 0.0, True)
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
    assert found.low == pytest.approx(256)
    nearly = needed.needed([point(64, (0.5,) * 4), point(128, (0.90, 0.99, 0.97, 0.95))], 0.95)
    assert math.isfinite(nearly.n) and nearly.high == math.inf
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


def test_the_interval_of_a_ratio_covers_the_truth_and_bounds_stay_bounds():
    random, held = np.random.default_rng(3), []
    for _ in range(100):
        few, many = np.exp(random.uniform(6, 7)), np.exp(random.uniform(7.5, 9))
        counts = [needed.needed(needed.search(learner(true, random), 0.95, 64, 10**6), 0.95) for true in (many, few)]
        found = needed.ratio(*counts)
        held.append(found.low <= many / few <= found.high)
        assert found.value == pytest.approx(counts[0].n / counts[1].n)
    assert np.mean(held) > 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / len(held))
    low, high, unreached = count(100), count(1000), count(1000, most=500)
    bound = needed.ratio(unreached, low)
    assert math.isinf(bound.value) and math.isinf(bound.high) and bound.low == pytest.approx(unreached.low / low.high)
    fewest = needed.needed([point(4, (0.99, 0.98)), point(8, (0.99, 0.99))], 0.95)
    assert needed.ratio(high, fewest).low == pytest.approx(high.low / fewest.high) and math.isinf(needed.ratio(high, fewest).value)
    assert needed.ratio(low, unreached) is None and needed.ratio(fewest, low) is None


def test_the_interval_goes_by_the_seeds_beside_the_count():
    def curve(seeds_at_the_end):
        random = np.random.default_rng(8)
        seeds = {100: 10, 200: 10, 400: 10, 800: seeds_at_the_end}
        means = {100: 0.80, 200: 0.93, 400: 0.97, 800: 0.99}
        return needed.needed([point(n, means[n] + 0.005 * random.normal(size=count)) for n, count in seeds.items()], 0.95)

    assert curve(3).seeds == 10 and curve(3).high / curve(3).low < 1.1 * curve(10).high / curve(10).low


@pytest.mark.parametrize('spread', [0.003, 0.01])
def test_the_interval_covers_on_a_coarse_grid_too(spread):
    """Five seeds at every third of a decade, where errors fall as a power of n: what is read between them must not be off."""
    random, held, grid = np.random.default_rng(9), [], (10, 30, 100, 300, 1000, 3000, 10_000)
    for _ in range(300):
        true, power = np.exp(random.uniform(math.log(40), math.log(5000))), random.uniform(0.2, 0.7)
        points = [point(n, np.clip(1 - 0.1 * (n / true) ** -power + spread * random.normal(size=5), 0, 1)) for n in grid]
        found = needed.needed(points, 0.9)
        held.append(found.low <= true <= found.high)
    assert np.mean(held) > 0.95 - 2.5 * math.sqrt(0.95 * 0.05 / len(held))
