"""What the steps of a training read: images that are held on the devices, or batches that are brought to them."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_research import batches, engine, hosts, mesh
from cnn_research.problem import Arrays, Examples, Problem

_SHARE = 0.4  # of a device's memory that images may take
_MOST = 2**27  # bytes of the batches that are brought at once


class Feed(Protocol):
    """The data of the chunks of an epoch, in order."""

    most: int  # steps that a chunk may have

    def begin(self, problem: Problem, order: jax.Array, done: int) -> None:
        """Go to step `done` of an epoch with this order of images."""
        ...

    def next(self, count: int) -> Arrays:
        """What the next `count` steps read."""
        ...


def feed(data: Sequence[Arrays], on: Mesh | None) -> Feed:
    """The feed of one seed, or of several: images on the devices where those hold them."""
    return ReadFeed(data[0], on) if streams(data[0]) else HeldFeed(data, on)


def streams(data: Arrays) -> bool:
    """Whether images are brought to the devices batch by batch: those that are decoded as they are read, or too large to be held."""
    images = data.pool.images
    return not isinstance(images, np.ndarray) or images.nbytes > _SHARE * hosts.device_memory()


class HeldFeed:
    """All images on every device, with draw and scale of every seed."""

    most = 2**31 - 1

    def __init__(self, data: Sequence[Arrays], on: Mesh | None):
        self.arrays = resident(data, on)

    def begin(self, problem: Problem, order: jax.Array, done: int) -> None:
        """Nothing is to be done: a step finds its images by the order."""

    def next(self, count: int) -> Arrays:
        """All of it."""
        return self.arrays


class ReadFeed:
    """The batches of one seed, read ahead; of several processes each reads the rows of its own devices."""

    def __init__(self, data: Arrays, on: Mesh | None):
        self._pool, self._draw, self._on = data.pool, np.asarray(data.draw), on
        self._rest = resident([data._replace(pool=Examples(np.zeros((1, 1, 1, 1), np.uint8), np.zeros(1, np.int32), None))], on)
        self._coming: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
        self.most = 1

    def begin(self, problem: Problem, order: jax.Array, done: int) -> None:
        """Read from there on."""
        size, used = problem.batch_size, problem.train_size // problem.batch_size * problem.batch_size
        passes = mesh.fetch(order).reshape(problem.config.train.passes, -1)[:, :used]
        indices = self._draw[passes.reshape(-1, size)][:, mesh.own_rows(self._on, size)]
        self._coming = batches.read_ahead(self._pool.images, np.asarray(self._pool.labels), indices, done)
        self.most = max(1, _MOST // max(1, size * int(np.prod(self._pool.images.shape[1:]))))

    def next(self, count: int) -> Arrays:
        """The next batches, [K, B, ...], where K is the power of two from `count` on: few programs serve every count."""
        read = [next(self._coming) for _ in range(count)]
        read += [read[-1]] * ((1 << (count - 1).bit_length()) - count)
        images, labels = (mesh.place_batches(self._on, np.stack(each)) for each in zip(*read))
        return self._rest._replace(pool=Examples(images, labels, None))


def resident(data: Sequence[Arrays], on: Mesh | None = None) -> Arrays:
    """What is held on the devices: the images once on each, draw and scale of every seed."""
    own: Any = {name: mesh.stack([getattr(arrays, name) for arrays in data]) for name in engine.OWN}
    held = data[0]._replace(train=None, validation=None, test=None, unseen=None, **own)
    return jax.tree.map(jnp.asarray, held) if on is None else mesh.resident(on, held, len(data) > 1)
