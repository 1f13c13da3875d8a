"""What `cnn_research.stats` claims: known values, coverage of the interval, and independence of order."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research.stats import Difference, Interval, holm, interquartile_mean, mean_interval, paired_difference

FRACTIONS = st.lists(st.floats(0, 1), min_size=2, max_size=20)


def test_known_value():
    # t(4, 0.975) = 2.776445 from printed tables; the standard deviation of 1..5 is sqrt(2.5).
    interval = mean_interval([1, 2, 3, 4, 5])
    half = 2.776445105 * math.sqrt(2.5 / 5)
    assert (interval.n, interval.mean) == (5, 3.0)
    assert interval.low == pytest.approx(3 - half, abs=1e-8)
    assert interval.high == pytest.approx(3 + half, abs=1e-8)


def _coverage(confidence: float, n: int, half_scale: float = 1.0) -> float:
    """The share of 10 000 samples of n normal values whose interval, scaled, holds the true mean 0.9."""
    draws = np.random.default_rng(20240229).normal(0.9, 0.02, (10_000, n))
    intervals = [mean_interval(sample, confidence) for sample in draws]
    return float(np.mean([abs(i.mean - 0.9) <= half_scale * (i.high - i.mean) for i in intervals]))


@pytest.mark.parametrize(('confidence', 'n'), [(0.95, 3), (0.95, 5), (0.8, 5)])
def test_interval_covers_the_true_mean_as_often_as_it_says(confidence, n):
    # Four standard errors of a share of 10 000 draws: under 0.009 at 0.95.
    assert abs(_coverage(confidence, n) - confidence) < 4 * math.sqrt(confidence * (1 - confidence) / 10_000)


def test_a_normal_interval_would_fail_the_coverage_test():
    assert _coverage(0.95, 5, 1.959964 / 2.776445) < 0.90


def test_few_values_have_no_interval():
    assert mean_interval([]) == Interval(0, None, None, None)
    assert mean_interval([0.7]) == Interval(1, 0.7, None, None)


@given(st.floats(-1e6, 1e6), st.integers(2, 50))
@settings(max_examples=100, deadline=None)
def test_equal_values_have_an_interval_of_zero_width(value, n):
    assert mean_interval([value] * n) == Interval(n, value, value, value)


@given(FRACTIONS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_order_changes_no_bit(values, random):
    shuffled = values[:]
    random.shuffle(shuffled)
    assert mean_interval(shuffled) == mean_interval(values)


@given(FRACTIONS)
@settings(max_examples=100, deadline=None)
def test_more_confidence_is_never_narrower(values):
    low, high = mean_interval(values, 0.8), mean_interval(values, 0.99)
    assert high.low <= low.low <= low.mean <= low.high <= high.high


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match='finite'):
        mean_interval([0.5, bad])


@pytest.mark.parametrize('confidence', [0, 1, 95])
def test_confidence_outside_0_and_1_is_refused(confidence):
    with pytest.raises(ValueError, match='confidence'):
        mean_interval([0.1, 0.2], confidence)


def test_pairs_are_made_by_seed_and_lone_seeds_left_out():
    a, b = {2: 0.9, 0: 0.7, 1: 0.8, 7: 0.1}, {0: 0.6, 1: 0.7, 2: 0.8, 9: 0.99}
    pair = paired_difference(a, b)
    assert pair.n == 3
    assert pair.mean == pytest.approx(0.1)
    # What the seeds do to both arms has cancelled: the unpaired spread is 0.1.
    assert pair.high - pair.low < 1e-12
    assert paired_difference(a, {}) == Difference(0, None, None, None, None, None, None)


@pytest.mark.parametrize('n', [5, 10, 40])
@pytest.mark.parametrize('tails', [np.inf, 3], ids=['normal', 'heavy_tails'])
def test_the_interquartile_interval_covers_the_middle_as_often_as_it_says(n, tails):
    random = np.random.default_rng(2)
    draws = random.standard_t(tails, (3000, n)) if np.isfinite(tails) else random.normal(size=(3000, n))
    assert 0.93 < np.mean([i.low <= 0 <= i.high for i in map(interquartile_mean, draws)]) < 0.985


def test_the_interquartile_mean_is_that_of_the_middle_half_and_forgets_a_failed_seed():
    assert interquartile_mean([1, 2, 3, 4, 100, 5, 6, -50]).mean == (2 + 3 + 4 + 5) / 4
    assert interquartile_mean([0.9] * 7 + [0.1]).mean == pytest.approx(0.9)
    assert interquartile_mean([]) == Interval(0, None, None, None)
    assert interquartile_mean([0.5, 0.7]).low is None


def _pairs(differences):
    return dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)


@pytest.mark.parametrize('n', [2, 7, 20])
def test_the_test_is_students_and_agrees_with_the_interval(n):
    random = np.random.default_rng(3)
    for shift in np.linspace(0, 1.5, 30):
        a, b = random.normal(shift, 1, n), random.normal(0, 1, n)
        found = paired_difference(dict(enumerate(a)), dict(enumerate(b)))
        assert found.p == pytest.approx(scipy.stats.ttest_rel(a, b).pvalue, rel=1e-9)
        told = not found.low <= 0 <= found.high
        assert told == (found.p < 0.05) and (found.seeds_needed is not None and found.seeds_needed <= n) == told


@pytest.mark.parametrize('n', [5, 10])
def test_without_a_difference_the_test_alarms_as_rarely_as_it_says(n):
    draws = np.random.default_rng(4).normal(size=(2000, n))
    alarms = np.mean([paired_difference(*_pairs(sample)).p <= 0.05 for sample in draws])
    assert abs(alarms - 0.05) < 4 * math.sqrt(0.05 * 0.95 / len(draws))


def test_as_many_seeds_as_are_needed_tell_the_difference_and_one_less_does_not():
    random = np.random.default_rng(5)
    for _ in range(20):
        sample = random.normal(0.4, 1, 6)
        needed = paired_difference(*_pairs(sample)).seeds_needed
        ratio = abs(sample.mean()) / sample.std(ddof=1)
        if needed is None:
            assert ratio * 100 < 1.97
            continue
        told = [ratio * math.sqrt(n) > scipy.stats.t.ppf(0.975, n - 1) for n in (needed - 1, needed) if n > 1]
        assert told == [False, True][-len(told) :]


def test_one_pair_or_equal_pairs_have_no_effect_size():
    alone = paired_difference(*_pairs([0.3]))
    assert (alone.mean, alone.p, alone.effect, alone.seeds_needed) == (0.3, None, None, None)
    equal = paired_difference(*_pairs([0.5] * 4))
    assert (equal.p, equal.effect, equal.seeds_needed) == (1 / 8, None, None)  # 2 of the 16 choices of signs
    assert paired_difference(*_pairs([0.0] * 4)).p == 1.0
    assert paired_difference(*_pairs([0.1, 0.2])).effect is None


def test_effect_is_the_mean_in_deviations_corrected_for_few_pairs():
    found = paired_difference(*_pairs([1.0, 2.0, 3.0]))
    assert found.effect == pytest.approx(2.0 * (1 - 3 / 7))


def test_holm_against_a_worked_example():
    # Holm 1979: the smallest p times the number of tests, the next times one less, never falling.
    found = holm([0.01, None, 0.04, 0.03, 0.005])
    assert found.pop(1) is None and found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    found = holm(p_values)
    assert all(p <= q <= min(1.0, len(p_values) * p) or p == q == 0 for p, q in zip(p_values, found))
    assert all(found[i] <= found[j] for i in range(len(found)) for j in range(len(found)) if p_values[i] < p_values[j])
