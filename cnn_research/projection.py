"""Back along the axis of sharing: the nearest layer that shares more, and how near it is ("convness").

All distances are Frobenius norms over the connections of the layer: taps on padding do not count, and a dense layer's weights outside
the filter do. A bias is no connection, and what coordinate channels add is one, [H', W', F]. Computed in float64 on the host.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from cnn_research import config, cost, embedding, errors, schemes, sharing
from cnn_research.geometry import Geometry

_ROUNDS = 200  # of alternating least squares, at most
_DRAWS = 8  # random kernels behind the chance level after matching


class Projection(NamedTuple):
    """The nearest layer's parameters, and the relative distance to it, in [0, 1]: 0 where the layer is of that scheme already."""

    params: dict[str, np.ndarray]
    residual: float


class Convness(NamedTuple):
    """How far a layer is a convolution: the share of its squared weights that the nearest convolution holds, in [0, 1].

    `chance` is what independent random weights give on average (exact; of a low-rank layer, random kernels under its own mixtures), and
    for `matched` the mean over random layers.
    """

    convness: float
    chance: float
    matched: float | None = None
    matched_chance: float | None = None


def project(params: Mapping[str, Any], source: schemes.Scheme, target: schemes.Scheme, g: Geometry) -> Projection:
    """The layer of scheme `target` whose connections are nearest to those of a layer of scheme `source`, by least squares.

    shared, tiled: the mean over tied positions, tap by tap, of those that meet a pixel. local, masked_dense: what lies under the filter.
    low_rank (free, a weight per position): by alternating least squares from the positions that see no padding; where none
    sees padding this is the best rank K (Eckart and Young 1936). The bias, where there is one, is kept; coordinates become one per
    position.

    Raises:
      InputError: parameters of another geometry or that are not finite, a layer that the target cannot have, or a target without a
        projection.
    """
    channels, features = embedding.check(params, source, g)
    target.shapes(g, channels, features)
    if not all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in params.values()):
        raise errors.InputError(f'this {source.name} layer has weights that are not finite: nothing is near it')
    kernel, total = _connections(params, source, g)
    mask = g.mask()
    if isinstance(target, schemes.Shared):
        values = {'kernel': _mean(kernel, mask)}
    elif isinstance(target, schemes.Tiled):
        th, tw = target.period
        tiles = [[_mean(kernel[i::th, j::tw], mask[i::th, j::tw]) for j in range(tw)] for i in range(th)]
        values = {'kernel': np.array(tiles)}
    elif isinstance(target, schemes.LowRank) and target.free and not target.row_column:
        values = _best_rank(kernel, mask, target.rank)
    elif isinstance(target, schemes.Local):
        values = {'kernel': kernel}
    elif isinstance(target, schemes.MaskedDense):
        values = {'kernel': np.asarray(sharing.matrix(g, jnp.asarray(kernel)))}
    else:
        known = 'shared, tiled, low_rank:K:free, local, masked_dense'
        raise errors.InputError(f'no projection onto {target.name}; there is one onto: {known}')
    dtype = np.asarray(params['kernel']).dtype
    values = {name: value.astype(dtype) for name, value in values.items()}
    near = _seen(np.asarray(_expand(target, g, values), np.float64), mask)
    # What is left: under the filter the difference, outside it everything.
    left = np.sum((kernel - near) ** 2) + max(total - np.sum(kernel**2), 0.0)
    bias = {'bias': np.asarray(params['bias'])} if 'bias' in params else {}
    if isinstance(source, schemes.Coordinates):
        added = sharing.coordinate_bias(g, {name: jnp.asarray(leaf) for name, leaf in params.items()})[0]
        bias = {'bias': np.asarray(bias.get('bias', 0) + added, dtype)}
    return Projection({**values, **bias}, float(np.sqrt(min(left / total, 1.0))) if total else 0.0)


def _expand(scheme: schemes.Scheme, g: Geometry, params: Mapping[str, Any]) -> jax.Array:
    return sharing.expand(scheme, g, {name: jnp.asarray(leaf) for name, leaf in params.items()})


def _seen(kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return np.where(mask[..., None, None], kernel, 0.0)


def _connections(params: Mapping[str, Any], source: schemes.Scheme, g: Geometry) -> tuple[np.ndarray, float]:
    """The kernel per position [H', W', kh, kw, C, F], zero at padding, and the sum of squares of all connections, in float64."""
    kernel = _seen(np.asarray(_expand(source, g, params), np.float64), g.mask())
    if type(source) is schemes.Dense:
        return kernel, float(np.sum(np.asarray(params['kernel'], np.float64) ** 2))
    return kernel, float(np.sum(kernel**2))


def _mean(kernel: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean over positions, tap by tap, of those that meet a pixel."""
    return _seen(kernel, mask).sum((0, 1)) / np.maximum(mask.sum((0, 1)), 1)[..., None, None]


def _best_rank(kernel: np.ndarray, mask: np.ndarray, rank: int) -> dict[str, np.ndarray]:
    """K kernels and mixtures nearest to `kernel` at the connected taps, by alternating least squares."""
    rows, columns, kh, kw, channels, features = kernel.shape
    taps, size = mask.reshape(rows * columns, kh * kw), channels * features
    flat = kernel.reshape(rows * columns, kh * kw, size)
    whole = taps.all(axis=1)
    # Where too few positions see the whole filter, what is missing starts as the mean.
    start = flat[whole] if whole.sum() >= rank else np.where(taps[..., None], flat, _mean(kernel, mask).reshape(1, kh * kw, size))
    _, _, right = np.linalg.svd(start.reshape(len(start), -1), full_matrices=False)
    bases = np.zeros((rank, kh * kw, size))
    bases[: len(right[:rank])] = right[:rank].reshape(-1, kh * kw, size)
    left, before = _mixtures(bases, flat, taps), np.inf
    for _ in range(_ROUNDS):
        error = np.sum(np.where(taps[..., None], np.einsum('pk,ktd->ptd', left, bases) - flat, 0) ** 2)
        if whole.all() or error >= before * (1 - 1e-12) or error <= 1e-28 * np.sum(flat**2):
            break
        before = error
        for tap in range(kh * kw):
            some = left[taps[:, tap]]
            bases[:, tap] = np.linalg.lstsq(some, flat[taps[:, tap], tap], rcond=None)[0]
        left = _mixtures(bases, flat, taps)
    return {'kernel': bases.reshape(rank, kh, kw, channels, features), 'mixture': left.reshape(rows, columns, rank)}


def _mixtures(bases: np.ndarray, flat: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """For every position the weights of the bases that come nearest to its kernel at its connected taps."""
    result = np.zeros((len(flat), len(bases)))
    for seen in np.unique(taps, axis=0):  # positions that see the same taps share one factorisation
        at = (taps == seen).all(axis=1)
        design = bases[:, seen].reshape(len(bases), -1).T
        result[at] = np.linalg.lstsq(design, flat[at][:, seen].reshape(at.sum(), -1).T, rcond=None)[0].T
    return result


def chance(source: schemes.Scheme, target: schemes.Scheme, g: Geometry, channels: int, features: int) -> float:
    """The expected share of squared weights that the projection keeps of independent random ones of equal variance.

    A source kernel that the connected positions of a target kernel use m_1, m_2, ... times counts sum(m^2) / sum(m) of sum(m), tap by
    tap: where every position has its own, that is the ratio of the dimensions. Exact.

    Raises:
      InputError: a target other than shared and tiled, a low-rank source (its positions share by mixtures, see `convness`), or a layer
        that one of them cannot have.
    """
    for scheme in (source, target):
        scheme.shapes(g, channels, features)
    if not isinstance(target, schemes.Shared | schemes.Tiled):
        raise errors.InputError(f'no chance level for {target.name}: there is one for shared and tiled')
    if isinstance(source, schemes.LowRank):
        raise errors.InputError(f'no chance level for every {source.name} layer, as it depends on the mixtures: convness() has it')
    mask, kept = g.mask().astype(np.float64), 0.0
    owners, groups = (_kernel_of(scheme, g) for scheme in (source, target))
    for group in np.unique(groups):
        inside = groups == group
        kernels, owner = np.unique(owners[inside], return_inverse=True)
        used = np.zeros((len(kernels), *g.kernel_size))
        np.add.at(used, owner, mask[inside])
        kept += np.sum((used**2).sum(0) / np.maximum(used.sum(0), 1))
    return float(kept * channels * features / source.connections(g, channels, features))


def _kernel_of(scheme: schemes.Scheme, g: Geometry) -> np.ndarray:
    """Which kernel each position uses, as numbers [H', W']."""
    if isinstance(scheme, schemes.Shared | schemes.Coordinates):
        period = (1, 1)
    else:
        period = scheme.period if isinstance(scheme, schemes.Tiled) else g.positions
    rows, columns = (np.arange(size) % t for size, t in zip(g.positions, period))
    return rows[:, None] * period[1] + columns


def _chance_of_mixtures(mixture: np.ndarray, mask: np.ndarray) -> float:
    """The expected convness of random kernels under these mixtures [H', W', K]."""
    seen = mask[..., None].astype(np.float64)
    weights = mixture[:, :, None, None]
    kept = np.sum(np.sum(seen * weights, (0, 1)) ** 2, -1) / np.maximum(mask.sum((0, 1)), 1)
    return float(np.sum(kept) / np.sum(seen * weights**2))


def convness(params: Mapping[str, Any], source: schemes.Scheme, g: Geometry, *, matching: bool = False) -> Convness:
    """How far a layer is a convolution, beside its chance level; with `matching` also after matching its channels across positions.

    A network trained from scratch may have learned the same filters in another order at every position: `matched` is the convness
    after each position's output channels were permuted (Hungarian algorithm) to fit the mean over positions best, in turns until
    nothing changes. Its inputs are not permuted, so below the first layer it is a lower bound. Matching fits noise too, so its chance
    level is the mean over random layers that were matched in the same way.
    """
    shared = schemes.Shared()
    residual = project(params, source, shared, g).residual
    kernel, total = _connections(params, source, g)
    channels, features = kernel.shape[4:]
    if isinstance(source, schemes.LowRank):
        mixture = sharing.mixture(source, {name: jnp.asarray(leaf) for name, leaf in params.items()})
        expected = _chance_of_mixtures(np.asarray(mixture, np.float64), g.mask())
    else:
        expected = chance(source, shared, g, channels, features)
    plain = Convness(1 - residual**2, expected)
    if not matching:
        return plain
    mask = g.mask()
    share = _share_after_matching(kernel, mask)
    draws = np.random.default_rng(0)
    random = [_share_after_matching(_seen(draws.normal(size=kernel.shape), mask), mask) for _ in range(_DRAWS)]
    # A random dense layer has the part of its squared weights under the filter that its connections say.
    under = g.connected * channels * features / source.connections(g, channels, features)
    matched = share * float(np.sum(kernel**2)) / total if total else share
    return plain._replace(matched=matched, matched_chance=float(np.mean(random)) * under)


def _share_after_matching(kernel: np.ndarray, mask: np.ndarray) -> float:
    """The share of the squared weights in the mean over positions, after matching output channels across positions."""
    kernel = kernel.copy()
    rows, columns, features = *kernel.shape[:2], kernel.shape[-1]
    # The first reference is the position that sees most: the mean of unmatched channels would look like none of them.
    seen = mask.sum((2, 3))
    reference = kernel[np.unravel_index(np.argmax(seen), seen.shape)]
    for _ in range(_ROUNDS):
        changed = False
        for i in range(rows):
            for j in range(columns):
                likeness = np.einsum('abcf,abcg->fg', reference, kernel[i, j])
                _, order = linear_sum_assignment(likeness, maximize=True)
                changed |= not np.array_equal(order, np.arange(features))
                kernel[i, j] = kernel[i, j][..., order]
        mean = _mean(kernel, mask)
        if not changed and np.array_equal(mean, reference):
            break
        reference = mean
    near = _seen(np.broadcast_to(reference, kernel.shape), mask)
    total = np.sum(kernel**2)
    return float(1 - np.sum((kernel - near) ** 2) / total) if total else 1.0


def distance(model: config.ModelConfig, variables: Mapping[str, Any], image: cost.Shape) -> float:
    """How far all stages together are from the nearest convolutions, in [0, 1]: |w - Pw| / |w| (d'Ascoli et al. 2019, section 4)."""
    left = total = 0.0
    for stage in cost.stages(model, image):
        params = variables['params'][stage.name]
        _, squares = _connections(params, stage.scheme, stage.geometry)
        left += squares * project(params, stage.scheme, schemes.Shared(), stage.geometry).residual ** 2
        total += squares
    return float(np.sqrt(left / total)) if total else 0.0


def model_convness(
    model: config.ModelConfig, variables: Mapping[str, Any], image: cost.Shape, *, matching: bool = False
) -> dict[str, Convness]:
    """The convness of every stage of a network on images (H, W, C), by name."""
    params = variables['params']
    result = {}
    for stage in cost.stages(model, image):
        result[stage.name] = convness(params[stage.name], stage.scheme, stage.geometry, matching=matching)
    return result
