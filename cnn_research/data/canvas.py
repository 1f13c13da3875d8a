"""Sets of positions on a canvas by name (Kayhan & van Gemert 2020; Ott et al. 2020 train and test so).

A position is the (row, column) of the image's upper left pixel. The canvas is black, as is the background of handwritten digits.
"""

import numpy as np

from cnn_research import errors


def positions(name: str, image: tuple[int, int], canvas: tuple[int, int]) -> np.ndarray:
    """All positions of a named set as int32 [P, 2], in row-major order.

    With R x C free positions: left and right are the first and last C // 2 columns at any row, top and bottom likewise by row,
    center is the one in the middle, any is all. An 8 x 8 image on a 16 x 16 canvas: left is columns 0 to 3, right 5 to 8.

    Raises:
      InputError: the canvas is smaller than the image, or the set is empty because the canvas leaves no room.
    """
    if canvas[0] < image[0] or canvas[1] < image[1]:
        raise errors.InputError(f'canvas {canvas[0]}x{canvas[1]} is smaller than the images of {image[0]}x{image[1]}: give a larger canvas')
    rows, columns = canvas[0] - image[0] + 1, canvas[1] - image[1] + 1
    row, column = np.mgrid[:rows, :columns]
    chosen = {
        'left': column < columns // 2,
        'right': column >= columns - columns // 2,
        'top': row < rows // 2,
        'bottom': row >= rows - rows // 2,
        'center': (row == rows // 2) & (column == columns // 2),
        'any': row >= 0,
    }[name]
    if not chosen.any():
        raise errors.InputError(
            f'no {name} positions for {image[0]}x{image[1]} images on a {canvas[0]}x{canvas[1]} canvas: give a larger canvas'
        )
    return np.argwhere(chosen).astype(np.int32)


def without(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Positions of `some` [P, 2] that are not in `others` [Q, 2], order kept."""
    taken = {tuple(p) for p in others.tolist()}
    return np.array([p for p in some.tolist() if tuple(p) not in taken], np.int32).reshape(-1, 2)
