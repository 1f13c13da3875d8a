"""The embedded set: scikit-learn's 1,797 handwritten digits of 8 x 8 pixels. It needs neither network nor files."""

import re

import numpy as np

from cnn_research.data.dataset import Dataset, Split, assemble
from cnn_research.errors import InputError

TEST_COUNT = 360
VALIDATION_COUNT = 200
LARGEST = 1024


def load(setting: str = '') -> Dataset:
    """The digits: 1,237 images [8, 8, 1] to train on, 200 to validate and 360 to test, stratified by class.

    The values 0 to 16 of the original become 0 to 255. A setting is a side in pixels: as digits/28 they are scaled up to it, bilinearly.

    Raises:
      InputError: a setting that is no side from 8 to 1024.
    """
    if setting and not (re.fullmatch(r'[1-9][0-9]{0,3}', setting) and 8 <= int(setting) <= LARGEST):
        raise InputError(f'digits are scaled to a side from 8 to {LARGEST} pixels, as in digits/28, got {setting!r}')
    from sklearn.datasets import load_digits  # slow to import

    pixels, labels = load_digits(return_X_y=True)
    whole = Split(np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1), labels.astype(np.int32))
    random = np.random.RandomState(0)  # its stream is frozen; the splitters of scikit-learn may change
    rest, test = cut_stratified(whole, TEST_COUNT, random)
    train, validation = cut_stratified(rest, VALIDATION_COUNT, random)
    name = f'digits/{setting}' if setting else 'digits'
    if setting:
        train, validation, test = (scaled(split, int(setting)) for split in (train, validation, test))
    return assemble(name, train, validation, test, tuple(str(digit) for digit in range(10)))


def scaled(split: Split, side: int) -> Split:
    """The images scaled to this side, bilinearly."""
    from PIL import Image

    images = [np.asarray(Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.BILINEAR)) for image in split.images]
    return Split(np.stack(images)[..., None], split.labels)


def cut_stratified(split: Split, count: int, random: np.random.RandomState) -> tuple[Split, Split]:
    """Cuts exactly `count` examples out, every class in proportion: (the rest, the cut), in the order of `split`."""
    shares = class_shares(np.bincount(split.labels), count)
    chosen = np.zeros(len(split.labels), bool)
    for label, share in enumerate(shares):
        chosen[random.permutation(np.flatnonzero(split.labels == label))[:share]] = True
    return split.take(~chosen), split.take(chosen)


def class_shares(class_counts: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` examples every class gives, in proportion to its size (int [classes] -> int [classes]).

    Rounded down, and the remaining ones go to the largest remainders (of equal ones, to the lowest class).
    """
    shares, remainders = np.divmod(class_counts * count, class_counts.sum())
    largest_first = np.argsort(-remainders, kind='stable')
    shares[largest_first[: count - shares.sum()]] += 1
    return shares
