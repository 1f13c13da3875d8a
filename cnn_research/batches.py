"""Training images that stay off the device: their batches, read ahead, in the order in which images on the device would be drawn."""

from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np

from cnn_research import cost
from cnn_research.data.streamed import Streamed
from cnn_research.problem import Examples

_MOST = 2**27  # bytes that are read ahead


class _Source:
    """The batches of an epoch, read as they are asked for. A random access source of Grain."""

    def __init__(self, images: Any, labels: np.ndarray, order: np.ndarray):
        self._images, self._labels, self._order = images, labels, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: SupportsIndex) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index]
        return self._images[chosen], self._labels[chosen]


def of(examples: Examples, order: np.ndarray) -> Iterator[Examples]:
    """The examples of each row of `order` [steps, B]; images that are decoded as they are read are read ahead."""
    images: Iterator[Any] = (examples.images[rows] for rows in order)
    if isinstance(examples.images, Streamed):
        images = (images for images, _ in read_ahead(examples.images, np.asarray(examples.labels), order))
    for own, rows in zip(images, order):
        yield Examples(own, examples.labels[rows], None if examples.corners is None else examples.corners[rows])


def read_ahead(images: Any, labels: np.ndarray, order: np.ndarray, first: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The batches (images [B, h, w, C], labels [B]) of the rows of `order` [steps, B] from `first` on, by as many threads as cores.

    images: uint8 [N, h, w, C], an array or a `data.streamed.Streamed`. What comes does not depend on the threads.
    """
    import grain  # type: ignore[import-untyped]  # takes a second to import, and is needed here alone

    cores = cost.cores()
    batch = max(1, order.shape[1] * int(np.prod(images.shape[1:])))
    options = grain.ReadOptions(num_threads=cores, prefetch_buffer_size=max(1, min(2 * cores, _MOST // batch)))
    return iter(grain.MapDataset.source(_Source(images, labels, order[first:])).to_iter_dataset(options))
