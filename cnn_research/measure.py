"""How a network behaves when its images move: measures for any model, as pure functions of a function of images.

    equivariance_error          do the maps of a layer move along with the image?
    sensitivity_map             how far do the outputs go when the image is moved so far?
    consistency                 are two shifts of an image read alike?
    effective_receptive_field   which pixels does a unit see, and how strongly?
    position_decodability       can the place of a unit be read from its features?

A function takes images [N, H, W, C], as a model does once its variables are bound; `layers` makes one of every layer of a Flax model.
Moves are (rows, columns), down and to the right. `circular` brings back at one side what leaves at the other; otherwise black (zero)
comes in.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from scipy.spatial.distance import pdist

from cnn_research import errors
from cnn_research import images as pictures

Function = Callable[[jax.Array], jax.Array]
_SEEN = 1 - 0.9545  # Luo et al. 2016: what has less than this share of the centre's weight lies outside


def layers(model: nn.Module, variables: Any, image: tuple[int, int, int], **kwargs: Any) -> dict[str, Function]:
    """Every module inside a Linen model that returns maps [N, H', W', F], by its path, as a function of images [N, H, W, C].

    image: (H, W, C). kwargs: what the model is called with besides the images.
    """

    def inside(x: jax.Array) -> dict[str, Any]:
        _, seen = model.apply(variables, x, capture_intermediates=True, mutable=['intermediates'], **kwargs)
        outputs = traverse_util.flatten_dict(seen['intermediates'])
        return {'/'.join(path[:-1]): calls[0] for path, calls in outputs.items() if path[-1] == '__call__' and len(path) > 1}

    shapes = jax.eval_shape(inside, jax.ShapeDtypeStruct((1, *image), jnp.float32))
    return {name: jax.jit(lambda x, name=name: inside(x)[name]) for name, shape in shapes.items() if getattr(shape, 'ndim', 0) == 4}


def moved(images: jax.Array, by: jax.Array | np.ndarray | Sequence[int], circular: bool = False) -> jax.Array:
    """Images [N, H, W, C] moved by (rows, columns), int [2], or each by its own, [N, 2]."""
    by = jnp.broadcast_to(jnp.asarray(by, jnp.int32), (len(images), 2))
    if circular:
        return jax.vmap(lambda image, one: jnp.roll(image, one, axis=(0, 1)))(images, by)
    most = max(images.shape[1:3])
    return pictures.shift(images, jnp.clip(by, -most, most), most)


class Equivariance(NamedTuple):
    """Equivariance errors over units that see nothing of the border, and over the others; None where there are none."""

    interior: float | None
    border: float | None


def equivariance_error(
    features: Function,
    images: jax.Array,
    by: tuple[int, int],
    *,
    circular: bool = True,
    strides: tuple[int, int] | None = None,
    margin: int = 0,
) -> Equivariance:
    """How far the maps of moved images are from the moved maps: 0 where they are equal, 1 where they are as unlike as unrelated maps.

        error = sqrt( sum |f(T x) - T' f(x)|^2 / ( sum |f(T x) - m|^2 + sum |T' f(x) - m|^2 ) )

    over images, channels and the units of a region, with m the mean of each channel. T moves images by `by`, T' the maps by `by / strides`;
    where that is no whole number, of the whole moves around it the one with the least error counts.

    features: images [N, H, W, C] to maps [N, H', W', F]. strides: pixels between two units (None: H / H' and W / W', as in layers that pad;
    a stack that does not pad needs them given). margin: units nearer to the border of the maps than this, or that came from there, are
    border units; for a layer that sees r units to every side, r. Maps wrap, as circular moves do, where H' strides make H.

    Raises:
      InputError: no strides, and the sides of the images are no multiples of those of the maps.
    """
    before = np.asarray(features(images), np.float64)
    after = np.asarray(features(moved(images, by, circular)), np.float64)
    if strides is None:
        if images.shape[1] % before.shape[1] or images.shape[2] % before.shape[2]:
            shapes = f'maps {before.shape[1:3]} of images {images.shape[1:3]}'
            raise errors.InputError(f'{shapes}: say how many pixels lie between units (strides)')
        strides = images.shape[1] // before.shape[1], images.shape[2] // before.shape[2]
    wraps = tuple(circular and side * stride == size for side, stride, size in zip(before.shape[1:3], strides, images.shape[1:3]))
    center = (before.mean((0, 1, 2)) + after.mean((0, 1, 2))) / 2
    before, after = before - center, after - center
    around = [sorted({math.floor(b / s), math.ceil(b / s)}) for b, s in zip(by, strides)]
    found = [_error(before, after, (rows, columns), wraps, margin) for rows in around[0] for columns in around[1]]
    return min(found, key=lambda e: (math.inf if e.interior is None else e.interior, math.inf if e.border is None else e.border))


def _error(before: np.ndarray, after: np.ndarray, by: tuple[int, int], wraps: tuple[bool, ...], margin: int) -> Equivariance:
    inside, exists, source = [], [], []
    for size, move, wrap in zip(before.shape[1:3], by, wraps):
        came = np.arange(size) - move
        exists.append(np.full(size, True) if wrap else (came >= 0) & (came < size))
        came %= size
        source.append(came)
        inside.append(np.all([(at >= margin) & (at < size - margin) for at in (np.arange(size), came)], axis=0))
    expected = before[:, source[0]][:, :, source[1]]
    known, interior = np.outer(*exists), np.outer(*inside)
    regions = [known & interior, known & ~interior]
    return Equivariance(*(_distance(after[:, region], expected[:, region]) if region.any() else None for region in regions))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    size = np.square(a).sum() + np.square(b).sum()
    return math.sqrt(np.square(a - b).sum() / size) if size > 0 else 0.0


def sensitivity_map(
    outputs: Function, images: jax.Array, rows: Sequence[int], columns: Sequence[int], *, circular: bool = False
) -> np.ndarray:
    """How far outputs go when images are moved: [rows, columns], in units of the mean distance between two different images.

    0: not at all; 1: as far as to another image. Translation-sensitivity maps (Kauderer-Abrams 2017), here divided by that mean.

    outputs: images [N, H, W, C] to vectors [N, K]; at least two images. rows, columns: the moves.

    Raises:
      InputError: fewer than two images, or outputs that are the same for all.
    """
    at_rest = np.asarray(outputs(images), np.float64).reshape(len(images), -1)
    unit = float(pdist(at_rest).mean()) if len(images) > 1 else 0.0
    if unit == 0:
        raise errors.InputError('a sensitivity map needs at least two images with different outputs')

    def far(by: tuple[int, int]) -> float:
        after = np.asarray(outputs(moved(images, by, circular)), np.float64).reshape(len(images), -1)
        return float(np.sqrt(np.square(after - at_rest).sum(-1)).mean() / unit)

    return np.array([[far((row, column)) for column in columns] for row in rows])


def alike(outputs: Function, images: jax.Array, moves: jax.Array | np.ndarray, *, circular: bool = False) -> jax.Array:
    """Whether two shifts of an image are read alike, the largest output counting: bool [N].

    outputs: images [N, H, W, C] to logits [N, K]. moves: int [N, 2, 2], two for every image, as `random_moves` draws them.
    """
    read = [jnp.argmax(outputs(moved(images, moves[:, i], circular)), axis=-1) for i in range(2)]
    return read[0] == read[1]


def consistency(outputs: Function, images: jax.Array, moves: jax.Array | np.ndarray, *, circular: bool = False) -> float:
    """The share of images of which two shifts are read alike (Zhang 2019, section 4.1; circular: Chaman & Dokmanic 2021, section 5)."""
    return float(jnp.mean(alike(outputs, images, moves, circular=circular)))


def random_moves(key: jax.Array, number: int, least: tuple[int, int], most: tuple[int, int]) -> jax.Array:
    """Two moves for each of so many images, int32 [number, 2, 2], each uniform over `least` to `most` (rows, columns; both included)."""
    return jax.random.randint(key, (number, 2, 2), jnp.array(least), jnp.array(most) + 1)


def receptive_field(stack: Iterable[tuple[int, int]]) -> int:
    """The side, in pixels, of what a unit sees above layers of (kernel size, stride) in their order: 1 + sum (k - 1) * strides before."""
    size, step = 1, 1
    for kernel, stride in stack:
        size += (kernel - 1) * step
        step *= stride
    return size


def effective_receptive_field(features: Function, images: jax.Array, key: jax.Array) -> np.ndarray:
    """How strongly the unit in the middle of the maps sees every pixel: [H, W], the strongest is 1 (Luo et al. 2016, section 2).

    The root mean square, over images, of the gradient of the middle unit's features, added with random signs, with respect to the image.

    features: images [N, H, W, C] to maps [N, H', W', F], differentiable.
    """

    def middle(x: jax.Array) -> jax.Array:
        y = features(x)
        unit = y[:, y.shape[1] // 2, y.shape[2] // 2]
        return jnp.sum(unit * jax.random.rademacher(key, unit.shape, unit.dtype))

    seen = np.asarray(jnp.sqrt(jnp.mean(jnp.sum(jnp.square(jax.grad(middle)(images)), axis=-1), axis=0)))
    return seen / (seen.max() or 1.0)


def effective_size(field: np.ndarray) -> float:
    """The side of a square of as many pixels as see more than 4.55 % of the strongest, for a field [H, W] (Luo et al. 2016)."""
    return math.sqrt(int((field > _SEEN * field.max()).sum()))


class Decodability(NamedTuple):
    """Shares of the variance of a unit's row and column that a linear read-out explains on held-out images (R^2, at most 1)."""

    row: float
    column: float


def position_decodability(features: Function, images: jax.Array) -> Decodability:
    """How well the place of a unit can be read from its features: least squares on half of the images, scored on the other half.

    A map that holds nothing of the position scores about 0, coordinates score 1 (after Islam et al. 2020, who trained a read-out of the
    position for maps that padding had told it to).

    features: images [N, H, W, C] to maps [N, H', W', F].

    Raises:
      InputError: fewer than two images.
    """
    if len(images) < 2:
        raise errors.InputError(f'a read-out needs images to learn from and others to be scored on, got {len(images)}')
    maps = np.asarray(features(images), np.float64)
    _, rows, columns, _ = maps.shape
    places = np.stack(np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing='ij'), axis=-1)
    units = np.concatenate([maps, np.ones((*maps.shape[:3], 1))], axis=-1)

    def read(half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return half.reshape(-1, half.shape[-1]), np.tile(places.reshape(-1, 2), (len(half), 1))

    (x, known), (held, wanted) = read(units[::2]), read(units[1::2])
    weights = np.linalg.lstsq(x, known, rcond=None)[0]
    left = np.square(held @ weights - wanted).sum(0)
    spread = np.square(wanted - wanted.mean(0)).sum(0)
    return Decodability(*(float(1 - error / total) if total > 0 else 0.0 for error, total in zip(left, spread)))
