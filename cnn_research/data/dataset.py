"""What every source hands out, and how training images are set aside for validation."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from cnn_research.data.streamed import Streamed
from cnn_research.errors import InputError

Images = Any  # an array uint8 [N, H, W, C], or a `Streamed`, which is indexed likewise
_PIECE = 1024  # images that are decoded at once
VALIDATION_COUNT = 5_000
VALIDATION_COUNT_FROM = 50_000  # training images from which on VALIDATION_COUNT are set aside


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """An image classification set, decoded.

    The images are uint8 [N, H, W, C] with values 0 to 255 (of sets that memory does not hold decoded as they are read), the labels
    int32 [N] with values from 0 to `len(class_names) - 1`. The three splits of real
    sets are disjoint, those of generated tasks are drawn independently of each other; their order is the same on every machine.

    A generated task may have a second test set, of what training never shows (`unseen_images`, `unseen_labels`; None: it has none), and
    names of its own for the two, which results then show besides.
    """

    name: str
    train_images: Images
    train_labels: np.ndarray
    validation_images: Images
    validation_labels: np.ndarray
    test_images: Images
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    unseen_images: np.ndarray | None = None
    unseen_labels: np.ndarray | None = None
    test_names: tuple[str, str] | None = None

    def with_unseen(self, split: 'Split', test_names: tuple[str, str] | None = None) -> 'Dataset':
        """The same with a second test set, of what training never shows, and names for the two."""
        return dataclasses.replace(self, unseen_images=split.images, unseen_labels=split.labels, test_names=test_names)

    def sha256(self) -> str:
        """The SHA-256, in hexadecimal, of the shape and content of the arrays, in the order of the fields."""
        digest = hashlib.sha256()
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray | Streamed):
                digest.update(repr(value.shape).encode())
                for first in range(0, len(value), _PIECE):
                    piece = value[first : first + _PIECE]
                    digest.update(np.ascontiguousarray(piece, piece.dtype.newbyteorder('<')).data)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """The images (uint8 [N, H, W, C]) and labels (int32 [N]) of one split."""

    images: Images
    labels: np.ndarray

    def take(self, indices: np.ndarray) -> 'Split':
        """The examples at these indices (int [K])."""
        images = self.images.at(indices) if isinstance(self.images, Streamed) else self.images[indices]
        return Split(images, self.labels[indices])


def assemble(name: str, train: Split, validation: Split, test: Split, class_names: tuple[str, ...]) -> Dataset:
    """The Dataset of three splits."""
    return Dataset(
        name=name,
        train_images=train.images,
        train_labels=train.labels,
        validation_images=validation.images,
        validation_labels=validation.labels,
        test_images=test.images,
        test_labels=test.labels,
        class_names=class_names,
    )


def cut_validation(name: str, train: Split) -> tuple[Split, Split]:
    """Sets training images aside for validation: (what is left for training, validation).

    The cut depends on the number of images alone: 5,000 of at least 50,000, otherwise a tenth. Both parts keep the
    order of `train`. RandomState, unlike Generator, promises the same stream in all versions of NumPy.

    Raises:
      InputError: there are fewer than ten images.
    """
    total = len(train.labels)
    count = VALIDATION_COUNT if total >= VALIDATION_COUNT_FROM else total // 10
    if count == 0:
        raise InputError(f'{name} has {total} training images; at least 10 are needed to set some aside for validation')
    order = np.random.RandomState(0).permutation(total)
    return train.take(np.sort(order[count:])), train.take(np.sort(order[:count]))
