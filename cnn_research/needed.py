"""How many examples a learner needs for a stated accuracy, with which exponent that grows, and how far both can be trusted.

Sources: Barlow, Bartholomew, Bremner and Brunk (1972), Statistical inference under order restrictions, for the monotone fit; Tobin (1958),
Estimation of relationships for limited dependent variables, Econometrica 26(1), for lines through censored points; Hestness et al. (2017),
Deep learning scaling is predictable, empirically, for what lies between points.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr, stdtrit

from cnn_research import errors

FIRST, MOST = 64, 2**17  # examples that are tried first, and that a training may have
_REFINE = 3  # points between the last that is not good enough and the next
_RESAMPLES = 500
_SEED = 1958
_WIDER = 1.1  # what a count's interval lacks, for the best of ten points is chosen by the same scores: see the coverage tests
_ON = 1e-9  # a logarithm this close to a bound lies on it
_FINEST = 1e-4  # errors are told apart down to this
_OPEN = 0.025  # with more of the resamples than this censored, an interval has no upper end


class Point(NamedTuple):
    """Accuracies of trainings on n examples each: scores [seeds, settings], and, of other seeds, tuned [seeds, settings].

    They are taken as independent. Every training is made in all settings; the one that counts is that with the best mean of `tuned`.
    """

    n: int
    scores: np.ndarray
    tuned: np.ndarray

    @property
    def best(self) -> int:
        """The setting that counts."""
        return int(np.argmax(np.mean(self.tuned, axis=0)))

    @property
    def mean(self) -> float:
        """The mean score in that setting."""
        return float(np.mean(self.scores[:, self.best]))

    def resampled(self, random: np.random.Generator, count: int) -> np.ndarray:
        """So many means of scores and settings of seeds drawn again, with replacement: what the choice of the setting adds is in them."""
        tuned, scores = (a[random.integers(0, len(a), (count, len(a)))].mean(axis=1) for a in (self.tuned, self.scores))
        return scores[np.arange(count), np.argmax(tuned, axis=1)]


@dataclasses.dataclass(frozen=True)
class Needed:
    """The examples needed, n, with a 95 % interval [low, high].

    Counts that were not found stay censored: n is inf where `most` examples were not enough (low says how many are not), and `least`,
    the fewest tried, where those were, with a low of 0. high is inf where chance alone may have made `most` enough. seeds: scores at the
    points on both sides, at least. resamples: n from resampled trainings, likewise.
    """

    n: float
    low: float
    high: float
    least: int
    most: int
    seeds: int
    resamples: np.ndarray

    @property
    def censored(self) -> bool:
        """Whether it is known only that n lies above `most`, or not above `least`."""
        return math.isinf(self.n) or self.n <= self.least


class Ratio(NamedTuple):
    """How many times as many examples, with a 95 % interval; value inf: it is known only that it is above `low`. low 0, high inf: open."""

    value: float
    low: float
    high: float


class Exponent(NamedTuple):
    """The slope of log n against log size, with its 95 % interval; points: how many, censored: how many of those."""

    slope: float
    low: float
    high: float
    points: int
    censored: int


def search(trained: Callable[[int], Point], target: float, first: int, most: int, least: int = 4) -> list[Point]:
    """The points around where the mean score passes `target`, by rising n.

    From `first` n is doubled until two n in a row are good enough, or halved down to where one is not; then three more are put between
    the last that is not and the next. n stays from `least` to `most`. `trained` makes new trainings at each call.

    Raises:
      InputError: a range of n that is none.
    """
    if not 1 <= least <= first <= most:
        raise errors.InputError(f'examples must be tried from {least} over {first} to {most}, in this order')
    points: dict[int, Point] = {}

    def good(n: int) -> bool:
        if n not in points:
            points[n] = trained(n)
        return points[n].mean >= target

    n = first
    while n > least and good(n):
        n = max(least, n // 2)
    good(n)
    in_a_row = 0
    while in_a_row < 2:
        in_a_row = in_a_row + 1 if good(n) else 0
        if n == most:
            break
        n = min(2 * n, most)
    low = max((n for n in points if not good(n)), default=most)
    above = [n for n in points if n > low]
    for step in range(1, _REFINE + 1) if above else ():
        good(round(low * (min(above) / low) ** (step / (_REFINE + 1))))
    return sorted(points.values(), key=lambda point: point.n)


def needed(points: Sequence[Point], target: float) -> Needed:
    """Where a rising curve through the mean scores passes `target`.

    The means are fitted by the nearest curve that never falls, weighted by their numbers of scores, and between points the error is taken
    for a power of n, as errors are (Hestness et al. 2017). The interval is Student's of log n, its deviation that over
    trainings drawn again, with replacement, at every n.

    Raises:
      ValueError: fewer than two points, or a point with fewer than two scores.
    """
    points = sorted(points, key=lambda point: point.n)
    if len(points) < 2 or min(len(point.scores) for point in points) < 2:
        raise ValueError('at least two points of at least two scores each are needed')
    at = np.log([point.n for point in points])
    weights = np.array([len(point.scores) for point in points], float)
    random = np.random.default_rng(_SEED)
    best = float(_crossings(np.array([[point.mean for point in points]]), weights, at, target)[0])
    found = _crossings(np.stack([point.resampled(random, _RESAMPLES) for point in points], axis=1), weights, at, target)
    beside = int(np.clip(np.searchsorted(at, best), 1, len(at) - 1))  # the points that the count lies between
    fewest, reached = int(weights[beside - 1 : beside + 1].min()), found[np.isfinite(found)]
    half = _WIDER * _half(reached, fewest)
    lowest = min(float(np.quantile(found, _OPEN, method='lower')), at[-1])  # the most that was tried, if it was hardly ever reached
    low = math.exp(min(best - half, lowest)) if best > at[0] else 0.0
    is_open = not math.isfinite(best) or float(np.mean(np.isinf(found))) > _OPEN
    high = math.inf if is_open else math.exp(best + half)
    n = math.exp(best) if math.isfinite(best) else math.inf
    return Needed(n if best > at[0] else points[0].n, low, high, points[0].n, points[-1].n, fewest, np.exp(found))


def ratio(more: Needed, less: Needed) -> Ratio | None:
    """The examples `more` as a multiple of `less`; None where censoring leaves nothing to say.

    The two are taken as independent: where their trainings share draws of data, the interval is wider than it need be.
    """
    if math.isinf(less.n) or more.low == 0:
        return None
    if more.censored or less.censored:
        return Ratio(math.inf, more.low / less.high, math.inf) if math.isfinite(less.high) else None
    halves = [_WIDER * _half(np.log(count.resamples[np.isfinite(count.resamples)]), count.seeds) for count in (more, less)]
    value, factor = more.n / less.n, math.exp(math.hypot(*halves))
    return Ratio(value, 0.0 if math.isinf(less.high) else value / factor, math.inf if math.isinf(more.high) else value * factor)


def _half(resampled: Sequence[float] | np.ndarray, seeds: int) -> float:
    """Half the width of a 95 % interval, by the deviation over resamples of so many seeds."""
    spread = float(np.std(resampled)) if len(resampled) > 1 else 0.0
    return float(stdtrit(seeds - 1, 0.975)) * math.sqrt(seeds / (seeds - 1)) * spread


def _crossings(means: np.ndarray, weights: np.ndarray, at: np.ndarray, target: float) -> np.ndarray:
    """Where the rising curve nearest to each row of means [R, points] passes the target, in the unit of `at`; inf where it does not."""
    total = np.concatenate([[0.0], np.cumsum(weights)])
    sums = np.concatenate([np.zeros((len(means), 1)), np.cumsum(means * weights, axis=1)], axis=1)
    size = len(at)
    rising = np.empty_like(means)  # at i: the largest over a <= i of the smallest over b >= i of the mean from a to b (Barlow et al., 1.4)
    for i in range(size):
        of = [(sums[:, i + 1 :] - sums[:, a : a + 1]) / (total[i + 1 :] - total[a]) for a in range(i + 1)]
        rising[:, i] = np.max([least.min(axis=1) for least in of], axis=0)
    enough = rising >= target - 1e-12
    i = np.argmax(enough, axis=1)
    rows, before = np.arange(len(means)), np.maximum(i - 1, 0)
    missed, left = -np.log(np.maximum(1 - rising, _FINEST)), -math.log(max(1 - target, _FINEST))
    step = missed[rows, i] - missed[rows, before]
    share = np.where(step > 0, (left - missed[rows, before]) / np.where(step > 0, step, 1.0), 1.0)
    return np.where(enough.any(axis=1), at[before] + (at[i] - at[before]) * np.clip(share, 0, 1), np.inf)


def exponent(sizes: Sequence[float], counts: Sequence[Needed]) -> Exponent:
    """The exponent s of n = c size^s through the counts, and its interval, which holds what is uncertain about every one of them.

    Without censored counts, the line of least squares in logarithms. With some, that of maximum likelihood for errors of one normal
    deviation, to which such a count says no more than on which side of its bound it lies. The deviation of the slope is that over the
    counts' resamples, which are independent, and the interval Student's for the seeds of a point.

    Raises:
      ValueError: fewer than three sizes, or fewer than two counts that are not censored.
    """
    if len(sizes) < 3 or sum(not count.censored for count in counts) < 2:
        raise ValueError('an exponent takes at least three sizes, at two of which the accuracy was reached')
    at = np.log(np.asarray(sizes, float))
    bounds = np.log([(count.least, count.most) for count in counts])
    best = _slope(at, np.log([count.n for count in counts]), bounds)
    random = np.random.default_rng(_SEED)
    drawn = np.log(np.array([random.permutation(count.resamples) for count in counts])).T
    slopes = [_slope(at, logs, bounds) for logs in drawn if (np.isfinite(logs) & (logs > bounds[:, 0] + _ON)).sum() >= 2]
    half = _half(slopes, min(count.seeds for count in counts))
    return Exponent(best, best - half, best + half, len(sizes), sum(count.censored for count in counts))


def _slope(at: np.ndarray, logs: np.ndarray, bounds: np.ndarray) -> float:
    above, below = np.isinf(logs), logs <= bounds[:, 0] + _ON
    known = ~(above | below)
    slope, level = np.polyfit(at[known], logs[known], 1) if len(set(at[known])) > 1 else (0.0, float(logs[known].mean()))
    if known.all():
        return float(slope)
    seen = np.where(above, bounds[:, 1], np.where(below, bounds[:, 0], logs))

    def unlikely(parameters: np.ndarray) -> float:
        slope, level, log_deviation = parameters
        off = (seen - level - slope * at) / math.exp(log_deviation)
        return float(np.sum(0.5 * off[known] ** 2 + log_deviation) - np.sum(log_ndtr(-off[above])) - np.sum(log_ndtr(off[below])))

    # A deviation below a hundredth is none that a count has; without a bound a line through two points would have none at all.
    found = minimize(unlikely, (slope, level, math.log(0.1)), method='L-BFGS-B', bounds=((None, None), (None, None), (math.log(0.01), 2.0)))
    return float(found.x[0])
