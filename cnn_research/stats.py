"""Means over seeds and how far they can be trusted.

Sums are taken with `math.fsum`, which rounds once, so a result does not depend on the order of its values.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scipy.special import stdtrit


@dataclass(frozen=True)
class Interval:
    """A mean over n values, in the values' own unit, with its confidence interval [low, high].

    n = 0: mean, low and high are None. n = 1: low and high are None, for one value says nothing about the spread.
    """

    n: int
    mean: float | None
    low: float | None
    high: float | None


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
    numbers = [float(value) for value in values]
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError('a mean over values that are not finite has no interval')
    n = len(numbers)
    if n == 0:
        return Interval(0, None, None, None)
    # Rounding may take a mean of equal values just off that value; clamping makes their interval exactly zero wide.
    mean = min(max(math.fsum(numbers) / n, min(numbers)), max(numbers))
    if n == 1:
        return Interval(1, mean, None, None)
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / (n - 1))
    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / math.sqrt(n)
    return Interval(n, mean, mean - half, mean + half)


def paired_difference(a: Mapping[int, float], b: Mapping[int, float], confidence: float = 0.95) -> Interval:
    """The mean of a - b over the seeds both have (seed -> value), with the t interval of the paired differences.

        d_seed = a[seed] - b[seed];  mean_interval(d)

    Two arms with the same seed share their data split and order, so what a seed does to both cancels in d. That
    usually makes this interval narrower than the two separate ones suggest. A seed only one arm has is left out.

    Source: Student (1908), as in `mean_interval`, applied to differences of pairs.
    """
    return mean_interval((a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())), confidence)
