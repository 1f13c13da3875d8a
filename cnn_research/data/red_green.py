"""Red and green: solved by what is where in the image, or by what is left of what (Kayhan & van Gemert 2020, section 3.2).

An image, 32 x 32 RGB, holds a red and a green square of 4 x 4 pixels on black. Class 0 has the red one at the left, class 1 the green one.
In training, and in the similar test, squares of class 0 stand around row 7 and those of class 1 around row 23; in the dissimilar test it is
the other way round: the same images, moved by 16 rows. Whoever reads the rows is right in the one and wrong in the other.
"""

import numpy as np

from cnn_research.data.dataset import Dataset, Split, assemble
from cnn_research.errors import InputError

SIDE, SQUARE = 32, 4
ROWS = (7, 23)  # of the squares' upper pixels, by class, before jitter
COUNTS = (2000, 1000, 1000)  # training, validation and test images, half of them of each class


def load(setting: str = '') -> Dataset:
    """The task: `unseen_images` are the dissimilar test. Raises InputError for a setting, of which it has none."""
    if setting:
        raise InputError(f'red_green has no setting, got {setting!r}')
    random = np.random.RandomState(0)
    train, validation, test = (draw(count, random) for count in COUNTS)
    dataset = assemble('red_green', train, validation, test, ('red left', 'green left'))
    return dataset.with_unseen(dissimilar(test), ('similar', 'dissimilar'))


def draw(count: int, random: np.random.RandomState) -> Split:
    """So many images in random order, half of them of each class.

    The left square's column is uniform over 0 to 9, the right one's over all from 5 further to 27; the upper row of each square is that of
    its class plus a whole number from -4 to 3, independent of the other's.
    """
    labels = random.permutation(np.arange(count) % 2).astype(np.int32)
    left = random.randint(0, 10, count)
    columns = np.stack([left, left + 5 + (random.random_sample(count) * (28 - (left + 5))).astype(int)], axis=1)
    rows = np.array(ROWS)[labels][:, None] + random.randint(-4, 4, (count, 2))
    images = np.zeros((count, SIDE, SIDE, 3), np.uint8)
    for image, label, (row, other_row), (column, other_column) in zip(images, labels, rows, columns):
        image[row : row + SQUARE, column : column + SQUARE, label] = 255
        image[other_row : other_row + SQUARE, other_column : other_column + SQUARE, 1 - label] = 255
    return Split(images, labels)


def dissimilar(split: Split) -> Split:
    """The same images moved by 16 rows, class 0 down and class 1 up, so that each class stands where the other one was."""
    moved = [np.roll(image, (ROWS[1 - label] - ROWS[label]), axis=0) for image, label in zip(split.images, split.labels)]
    return Split(np.stack(moved), split.labels)
