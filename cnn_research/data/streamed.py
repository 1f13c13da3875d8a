"""Images that are decoded when they are asked for: those of sets that memory does not hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_research.errors import InputError


class Streamed:
    """Images uint8 [N, H, W, C] in records, indexed as an array of them would be along its first axis.

    records: examples as dicts, decoded by indexing. key: of the image in an example. side: images are scaled so that their shorter side
    has so many pixels, and cut to the middle square; None: they are as they are, of the size of the first. indices: which records, in
    which order (None: all).
    """

    dtype, ndim = np.dtype(np.uint8), 4

    def __init__(self, records: Sequence[Any], key: str, side: int | None = None, indices: np.ndarray | None = None):
        self._records, self._key, self._side = records, key, side
        self._indices = np.arange(len(records)) if indices is None else indices
        self.shape = (len(self._indices), *self._image(int(self._indices[0])).shape)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, chosen: int | np.ndarray | slice) -> np.ndarray:
        """The images at these indices, decoded: uint8 [K, H, W, C], or [H, W, C]. Raises InputError for one of another size."""
        if not isinstance(chosen, slice | np.ndarray):
            return self[np.array([chosen])][0]
        indices = self._indices[chosen]
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for i, index in enumerate(indices):
            image = self._image(int(index))
            if image.shape != self.shape[1:]:  # NumPy would stretch some of them
                raise InputError(f'image {index} is {image.shape}, not {self.shape[1:]}')
            images[i] = image
        return images

    def at(self, chosen: np.ndarray) -> 'Streamed':
        """The images at these indices, not decoded."""
        return Streamed(self._records, self._key, self._side, self._indices[chosen])

    def _image(self, index: int) -> np.ndarray:
        image = np.asarray(self._records[index][self._key])
        return image if self._side is None else middle_square(image, self._side)


def middle_square(image: np.ndarray, side: int) -> np.ndarray:
    """The middle square of an image uint8 [H, W, C], scaled to [side, side, C], bilinearly and without aliases."""
    from PIL import Image

    height, width, channels = image.shape
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    middle = image[top : top + shorter, left : left + shorter]
    scaled = Image.fromarray(middle[..., 0] if channels == 1 else middle).resize((side, side), Image.Resampling.BILINEAR)
    return np.asarray(scaled).reshape(side, side, channels)
