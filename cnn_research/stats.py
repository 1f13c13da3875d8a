"""Means over seeds, differences between arms, and how far they can be trusted.

Intervals, tests and numbers of seeds are all Student's, so that they never contradict each other. Sums are taken with `math.fsum`, which
rounds once, so a result does not depend on the order of its values.

Of ten values from Beta(20, 1), skewed as accuracies near 100 % are, Student's interval holds the true mean in 90.9 % of 1,000 simulations,
the percentile bootstrap's in 86.8 and BCa's in 88.0; the bootstrap-t does better (93.9 %), but becomes 1,800 points wide when a tenth of
the runs fail. Of ten normal values it is 93.2, 89.0, 89.0 and 94.0 %. So nothing here resamples.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from scipy.special import stdtr, stdtrit

_MOST_SEEDS = 10_000  # that anyone is told to run


@dataclass(frozen=True)
class Interval:
    """A mean over n values, in the values' own unit, with its confidence interval [low, high].

    n = 0: mean, low and high are None. n = 1: low and high are None, for one value says nothing about the spread.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference over n pairs, with its interval, and whether it could be chance.

    p: two-sided, of no difference, by Student's test. effect: the mean over the standard deviation of the differences, corrected for small
    n (Hedges 1981). seeds_needed: the fewest pairs with which a difference of this mean and spread is told from none, and so the number at
    which the next study has an even chance to tell one that is this large; None where more than 10,000 would be needed. All three are
    None for less than two pairs, the effect for less than three, effect and seeds_needed where all pairs differ alike.
    """

    p: float | None
    effect: float | None
    seeds_needed: int | None


def mean_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """The mean of independent values and Student's t interval for the mean they were drawn around.

        m = sum(x) / n
        s = sqrt(sum((x - m)^2) / (n - 1))
        [low, high] = m -/+ t(n - 1, (1 + confidence) / 2) * s / sqrt(n)

    where t(k, p) is the p-quantile of Student's t distribution with k degrees of freedom. The interval covers the
    true mean in a share `confidence` of repetitions if the values are normal, and nearly so if they are not too
    skewed. It is not cut at 0 or 1, so near 100 % accuracy its end may lie past 1.

    Source: Student (1908), The probable error of a mean, Biometrika 6(1), 1-25.
    """
    if not 0 < confidence < 1:
        raise ValueError(f'confidence must lie between 0 and 1, not {confidence}')
    numbers = sorted(float(value) for value in values)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError('a mean over values that are not finite has no interval')
    n = len(numbers)
    if n == 0:
        return Interval(0, None, None, None)
    # Rounding may take a mean of equal values just off that value; clamping makes their interval exactly zero wide.
    mean = min(max(math.fsum(numbers) / n, numbers[0]), numbers[-1])
    if n == 1:
        return Interval(1, mean, None, None)
    half = _quantile(n, confidence) * _deviation(numbers) / math.sqrt(n)
    return Interval(n, mean, mean - half, mean + half)


def _deviation(numbers: Sequence[float]) -> float:
    mean = math.fsum(numbers) / len(numbers)
    return math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (len(numbers) - 1)) if numbers[0] != numbers[-1] else 0.0


def _quantile(n: int, confidence: float) -> float:
    return float(stdtrit(n - 1, (1 + confidence) / 2))


def interquartile_mean(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """The mean of the middle half of the values, which one failed seed does not move, with its interval.

    A quarter of the values, rounded down, is left out at either end. The interval is Tukey and McLaughlin's: Student's, with the deviation
    of the values whose tails are pulled in; it needs four values.

    Sources: Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical precipice, for the use; Tukey and McLaughlin
    (1963), Less vulnerable confidence and significance procedures for location, Sankhya A 25(3), for the interval.
    """
    from scipy.stats import mstats, trim_mean  # slow to import

    numbers = sorted(float(value) for value in values)
    if not numbers:
        return Interval(0, None, None, None)
    mean = float(trim_mean(numbers, 0.25))
    if len(numbers) < 4:
        return Interval(len(numbers), mean, None, None)
    if numbers[0] == numbers[-1]:
        return Interval(len(numbers), mean, mean, mean)
    low, high = mstats.trimmed_mean_ci(numbers, (0.25, 0.25), alpha=1 - confidence)
    return Interval(len(numbers), mean, float(low), float(high))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95) -> Difference:
    """The mean of a - b over the seeds both have (seed -> value), with the interval of the paired differences and a test.

    Two arms with the same seed share their data split and order, so what a seed does to both cancels in the difference. That usually makes
    this interval narrower than the two separate ones suggest. A seed only one arm has is left out.

    Sources: Student (1908), as in `mean_interval`, applied to differences of pairs; Hedges (1981), Distribution theory for Glass's
    estimator of effect size, J. Educ. Stat. 6(2).
    """
    numbers = sorted(a[seed] - b[seed] for seed in a.keys() & b.keys())
    found = mean_interval(numbers, confidence)
    n, mean = found.n, found.mean
    if n < 2 or mean is None:
        return Difference(**asdict(found), p=None, effect=None, seeds_needed=None)
    deviation = _deviation(numbers)
    if deviation == 0:  # no spread to go by: p is the chance that all signs agree
        return Difference(**asdict(found), p=1.0 if mean == 0 else 2.0 ** (1 - n), effect=None, seeds_needed=None)
    p = 2 * float(stdtr(n - 1, -abs(mean) / (deviation / math.sqrt(n))))
    effect = mean / deviation * (1 - 3 / (4 * (n - 1) - 1)) if n > 2 else None
    return Difference(**asdict(found), p=p, effect=effect, seeds_needed=_seeds_needed(abs(mean) / deviation, confidence))


def _seeds_needed(ratio: float, confidence: float) -> int | None:
    """The fewest pairs whose Student interval is narrower than the mean is far from zero; `ratio`: the mean over the deviation."""
    low, high = 1, 2
    while ratio * math.sqrt(high) <= _quantile(high, confidence):
        low, high = high, 2 * high
        if low >= _MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ratio * math.sqrt(middle) > _quantile(middle, confidence) else (middle, high)
    return high if high <= _MOST_SEEDS else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for being several: the chance that any of them is a false alarm is at most the level they are held against.

    None stays None and does not count. Source: Holm (1979), A simple sequentially rejective multiple test procedure, Scand. J. Stat. 6(2).
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - rank) * p))
        corrected[place] = highest
    return corrected
