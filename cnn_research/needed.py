"""How many examples a learner needs for a stated accuracy, with which exponent that grows, and how far both can be trusted.

Sources: Barlow, Bartholomew, Bremner and Brunk (1972), Statistical inference under order restrictions, for the monotone fit; Tobin (1958),
Estimation of relationships for limited dependent variables, Econometrica 26(1), for lines through censored points.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_ndtr, stdtrit

from cnn_research import errors

_REFINE = 3  # points between the last that is not good enough and the next
_RESAMPLES = 500
_SEED = 1958
_WIDER = 1.1  # what a count's interval lacks, for the best of ten points is chosen by the same scores: see the coverage tests
_OPEN = 0.025  # with more of the resamples than this censored, an interval has no upper end


class Point(NamedTuple):
    """Accuracies of independent trainings on n examples each."""

    n: int
    scores: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Needed:
    """The examples needed, n, with a 95 % interval [low, high].

    Censored results stay so: n is inf where `most` examples were not enough, and then so is high; high alone is inf where chance alone may
    have made them enough. seeds: scores at a point, at least. resamples: n from resampled scores, inf where they did not reach it.
    """

    n: float
    low: float
    high: float
    most: int
    seeds: int
    resamples: np.ndarray

    @property
    def censored(self) -> bool:
        """Whether more than `most` examples are needed."""
        return math.isinf(self.n)


class Exponent(NamedTuple):
    """The slope of log n against log size, with its 95 % interval; points: how many, censored: how many of those were not reached."""

    slope: float
    low: float
    high: float
    points: int
    censored: int


def search(scores: Callable[[int], Sequence[float]], target: float, first: int, most: int, least: int = 4) -> list[Point]:
    """The points around where the mean score passes `target`, by rising n.

    From `first` n is doubled until two n in a row are good enough, or halved down to where one is not; then three more are put between
    the last that is not and the next. n stays from `least` to `most`. `scores` makes new trainings at each call.

    Raises:
      InputError: a range of n that is none.
    """
    if not 1 <= least <= first <= most:
        raise errors.InputError(f'examples must be tried from {least} over {first} to {most}, in this order')
    points: dict[int, Point] = {}

    def good(n: int) -> bool:
        if n not in points:
            points[n] = Point(n, tuple(scores(n)))
        return float(np.mean(points[n].scores)) >= target

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
    return sorted(points.values())


def needed(points: Sequence[Point], target: float) -> Needed:
    """Where a rising curve through the mean scores passes `target`.

    The means are fitted by the nearest curve that never falls, weighted by their numbers of scores, and the curve is read between points
    along log n. The interval is Student's of log n, its deviation that over trainings drawn again, with replacement, at every n. Where the
    first point is good enough, it is what is read, though fewer examples may do.

    Raises:
      ValueError: fewer than two points, or a point with fewer than two scores.
    """
    points = sorted(points)
    if len(points) < 2 or min(len(point.scores) for point in points) < 2:
        raise ValueError('at least two points of at least two scores each are needed')
    at = np.log([point.n for point in points])
    scores = [np.array(point.scores) for point in points]
    weights = np.array([len(s) for s in scores], float)
    random = np.random.default_rng(_SEED)
    best = float(_crossings(np.array([[s.mean() for s in scores]]), weights, at, target)[0])
    drawn = np.stack([random.choice(s, (_RESAMPLES, len(s))).mean(axis=1) for s in scores], axis=1)
    found = _crossings(drawn, weights, at, target)
    fewest = int(weights.min())
    reached = found[np.isfinite(found)]
    half = _WIDER * _half(reached, fewest)
    is_open = not math.isfinite(best) or float(np.mean(np.isinf(found))) > _OPEN
    lowest = min(float(np.quantile(found, _OPEN, method='lower')), at[-1])  # the most that was tried, if it was hardly ever reached
    low = math.exp(best - half if math.isfinite(best) else lowest)
    high = math.inf if is_open else math.exp(best + half)
    return Needed(math.exp(best) if math.isfinite(best) else math.inf, low, high, points[-1].n, fewest, np.exp(found))


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
    step = rising[rows, i] - rising[rows, before]
    share = np.where(step > 0, (target - rising[rows, before]) / np.where(step > 0, step, 1.0), 1.0)
    return np.where(enough.any(axis=1), at[before] + (at[i] - at[before]) * np.clip(share, 0, 1), np.inf)


def exponent(sizes: Sequence[float], counts: Sequence[Needed]) -> Exponent:
    """The exponent s of n = c size^s through the counts, and its interval, which holds what is uncertain about every one of them.

    Without censored counts, the line of least squares in logarithms. With some, that of maximum likelihood for errors of one normal
    deviation, to which such a count says no more than that it lies above `most`. The deviation of the slope is that over the counts'
    resamples, taken as independent, and the interval Student's for the seeds of a point.

    Raises:
      ValueError: fewer than three sizes, or fewer than two counts that are not censored.
    """
    if len(sizes) < 3 or sum(not count.censored for count in counts) < 2:
        raise ValueError('an exponent takes at least three sizes, at two of which the accuracy was reached')
    at = np.log(np.asarray(sizes, float))
    most = np.log([count.most for count in counts])
    best = _slope(at, np.log([count.n for count in counts]), most)
    random = np.random.default_rng(_SEED)
    drawn = np.log(np.array([random.permutation(count.resamples) for count in counts])).T
    slopes = [_slope(at, logs, most) for logs in drawn if np.isfinite(logs).sum() >= 2]
    half = _half(slopes, min(count.seeds for count in counts))
    return Exponent(best, best - half, best + half, len(sizes), sum(count.censored for count in counts))


def _slope(at: np.ndarray, logs: np.ndarray, most: np.ndarray) -> float:
    known = np.isfinite(logs)
    slope, level = np.polyfit(at[known], logs[known], 1) if len(set(at[known])) > 1 else (0.0, float(logs[known].mean()))
    if known.all():
        return float(slope)

    def unlikely(parameters: np.ndarray) -> float:
        slope, level, log_deviation = parameters
        off = (np.where(known, logs, most) - level - slope * at) / math.exp(log_deviation)
        return float(np.sum(0.5 * off[known] ** 2 + log_deviation) - np.sum(log_ndtr(-off[~known])))

    # A deviation below a hundredth is none that a count has; without a bound a line through two points would have none at all.
    found = minimize(unlikely, (slope, level, math.log(0.1)), method='L-BFGS-B', bounds=((None, None), (None, None), (math.log(0.01), 2.0)))
    return float(found.x[0])
