"""What `cnn_research.stats` claims: known values, coverage of the interval, and independence of order."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnn_research.stats import Interval, mean_interval, paired_difference

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
    assert paired_difference(a, {}) == Interval(0, None, None, None)
